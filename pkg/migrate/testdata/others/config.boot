interfaces {
    ethernet eth0 {
        address 192.0.2.1/24
    }
}
high-availability {
    vrrp {
        group web {
            address 192.0.2.10/24 {
            }
            authentication {
                password "not2tell"
                type "plaintext-password"
            }
            interface eth0
            priority 200
            vrid 51
        }
        sync-group all {
            member web
        }
    }
}
system {
    host-name r1
    login {
        user vyos {
            authentication {
                plaintext-password "not2tell"
            }
        }
    }
}
// vyos-config-version: "vrrp@4"
