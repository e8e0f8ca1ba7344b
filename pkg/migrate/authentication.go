// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
)

// KeyFile is a file for a secret of the source. The rest of the Result refers to the
// file and doesn't have the secret.
type KeyFile struct {
	Path   string
	Secret string // the content of the file, which only its owner may read
}

// Format prints the path, whatever the verb, and never the secret.
func (k KeyFile) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, k.Path) }

// legacy is the block authentication.
type legacy struct {
	kind, password *node
}

func (l *legacy) rules() rules {
	return rules{
		"auth_type": {apply: func(_ *translator, _ *instance, n *node) { l.kind = n; n.arg(1) }},
		"auth_pass": {apply: func(_ *translator, _ *instance, n *node) { l.password = n; n.args() }},
	}
}

// hmacBlock is the block auth_hmac.
type hmacBlock struct {
	keys   []*node
	values map[string]*node
}

func (h *hmacBlock) rules() rules {
	value := rule{apply: func(_ *translator, _ *instance, n *node) { h.values[n.name()] = n; n.arg(1) }}
	return rules{"active_key": value, "anti_replay": value, "time_window": value, "mode": value}
}

// authentication translates the block authentication of version 2, or auth_hmac.
func (t *translator) authentication(in *instance, version int) {
	switch {
	case in.auth == nil && in.hmac == nil:
	case in.hmac != nil:
		t.hmac(in)
		if in.auth != nil {
			in.auth.tellAll()
			t.find(in.auth, Unneeded, "keepalived ignores it beside auth_hmac")
		}
	case t.strict(in):
		in.auth.tellAll()
		t.find(in.auth, Unneeded, "keepalived ignores it in strict mode and sends none")
	case version == 3:
		in.auth.tellAll()
		t.find(in.auth, Unneeded, "version 3 has no such authentication, and keepalived sends none; `type: hmac` below `authentication:` is better on all hosts")
	default:
		t.legacy(in)
	}
}

func (t *translator) legacy(in *instance) {
	var l legacy
	t.apply(l.rules(), in, in.auth.block)
	kinds := map[string]auth.Type{"PASS": auth.Password, "AH": auth.Header}
	if l.kind == nil || l.password == nil || l.password.rawArg(1) == "" {
		t.find(in.auth, Doubtful, "without a type and a password keepalived has no authentication")
		return
	}
	kind, known := kinds[l.kind.arg(1)]
	if !known {
		t.find(l.kind, Doubtful, "it is neither PASS nor AH, so keepalived has no authentication")
		return
	}
	password := l.password.rawArg(1)
	path := t.keyFile(in, "password", password[:min(len(password), auth.PasswordMax)])
	in.router.keys = append(in.router.keys, pair{key: "authentication", below: []string{"type: " + string(kind), "key_file: " + text(path)}})
	t.find(in.auth, Unneeded, "the password is in %s. It keeps out no attacker: with version 3 there is `type: hmac`", path)
}

func (t *translator) hmac(in *instance) {
	h := hmacBlock{values: make(map[string]*node)}
	var others []*node
	for _, n := range in.hmac.block {
		if n.name() == "key" { // there may be several
			n.tell()
			n.args()
			h.keys = append(h.keys, n)
			continue
		}
		others = append(others, n)
	}
	t.apply(h.rules(), in, others)
	lines := []string{"type: hmac", "keys:"}
	for _, n := range h.keys {
		id, err := strconv.Atoi(n.rawArg(1))
		if err != nil || id < 1 || id > 255 || n.rawArg(2) == "" {
			t.find(n, Unknown, "it has no id from 1 to 255 with a key")
			continue
		}
		if len(n.words) > 3 {
			t.find(n, Doubtful, "keepalived ignores the words behind the key, which aren't shown: it wants each directive on a line of its own")
		}
		lines = append(lines, fmt.Sprintf("  - {id: %d, %s}", id, t.hmacKey(in, n, id)))
	}
	word := func(name string) string {
		if n := h.values[name]; n != nil {
			return n.arg(1)
		}
		return ""
	}
	if send, err := strconv.Atoi(word("active_key")); err == nil {
		lines = append(lines, "send: "+strconv.Itoa(send))
	}
	switch mode := word("mode"); {
	case mode == "", mode == string(auth.Enforce):
	case t.strict(in):
		t.find(h.values["mode"], Doubtful, "keepalived takes enforce for it in strict mode")
	case mode == "permissive":
		lines = append(lines, "mode: "+string(auth.Permit))
	case mode == string(auth.ReceiveOnly):
		lines = append(lines, "mode: "+mode)
	default:
		t.find(h.values["mode"], Unknown, "`%s` is neither enforce, permissive nor receive-only", cut(mode))
	}
	window := ""
	if seconds, err := strconv.Atoi(word("time_window")); err == nil {
		window = fmt.Sprintf("%ds", seconds)
	}
	switch replay := word("anti_replay"); replay {
	case "", "time":
	case "monotonic":
		window = "0s"
	default:
		t.find(h.values["anti_replay"], Unknown, "`%s` is neither time nor monotonic", cut(replay))
	}
	if window != "" {
		lines = append(lines, "window: "+window)
	}
	in.router.keys = append(in.router.keys, pair{key: "authentication", below: lines})
}

// hmacKey returns the key of the configuration that says where a key is: where
// keepalived reads it, or in a file of its own.
func (t *translator) hmacKey(in *instance, n *node, id int) string {
	value := n.rawArg(2)
	path, inFile := strings.CutPrefix(value, "file:")
	switch {
	case inFile && strings.Contains(path, credentials):
		name := filepath.Base(path)
		t.find(n, Changed, "it is a credential of keepalived's unit: add LoadCredential= or LoadCredentialEncrypted= for `%s` to failoverd's too", cut(name))
		return "credential: " + text(name)
	case inFile:
		return "file: " + text(path)
	}
	file := t.keyFile(in, fmt.Sprintf("key-%d", id), value)
	t.find(n, Unneeded, "the key is in %s", file)
	return "file: " + text(file)
}

// credentials is the environment variable for systemd's directory of credentials.
const credentials = "CREDENTIALS_DIRECTORY"

// keyFile keeps a secret of the source and returns the path of its file.
func (t *translator) keyFile(in *instance, what, secret string) string {
	name := fmt.Sprintf("%s-%d-%s", strings.Trim(nameless().ReplaceAllString(in.iface, "-"), "-"), in.vrid, what)
	if in.router.node != nil && in.iface == "" {
		name = strings.TrimPrefix(name, "-")
	}
	path := filepath.Join(t.KeyDir, name)
	for i := 2; t.taken(path); i++ { // version 2 and 3, or two families, of a VRID
		path = filepath.Join(t.KeyDir, fmt.Sprintf("%s-%d", name, i))
	}
	t.keyFiles = append(t.keyFiles, KeyFile{path, secret + "\n"})
	return path
}

func (t *translator) taken(path string) bool {
	for _, k := range t.keyFiles {
		if k.Path == path {
			return true
		}
	}
	return false
}
