//! Which addresses may be posted to: public ones, and the networks that the configuration names.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that are reached although they are not public.
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads networks in CIDR notation; the error is the one that is none.
    pub fn parse(networks: &[String]) -> Result<Self, String> {
        let one = |text: &String| text.parse().map_err(|_| text.clone());
        networks.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address may be posted to.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = unmapped(address);
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }
}

/// An IPv4 address that is written as an IPv6 one is what it is (RFC 4291 §2.5.5.2).
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether an address is one of the public internet (IANA special-purpose address registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // "This network", shared address space, protocol assignments, 6to4 relays, benchmarking, reserved and broadcast.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Only global unicast (RFC 4291 §2.4) is routed; within it, these are not, or lead to IPv4 addresses in disguise: protocol
    // assignments with Teredo, documentation, 6to4, documentation again.
    let global = segments[0] & 0xe000 == 0x2000;
    let special = match segments[0] {
        0x2001 => segments[1] < 0x0200 || segments[1] == 0x0db8,
        0x2002 => true,
        0x3fff => segments[1] < 0x1000,
        _ => false,
    };
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached() {
        let none = Networks::default();
        for bad in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!none.allow(bad.parse().unwrap()), "{bad}");
        }
        for good in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1", "::ffff:8.8.8.8"] {
            assert!(none.allow(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn named_networks_are_reached_too() {
        let some = Networks::parse(&["10.1.0.0/16".into(), "fd00:1::/32".into()]).unwrap();
        assert!(some.allow("10.1.2.3".parse().unwrap()) && some.allow("::ffff:10.1.2.3".parse().unwrap()));
        assert!(some.allow("fd00:1::9".parse().unwrap()) && !some.allow("10.2.0.1".parse().unwrap()));
        assert_eq!(Networks::parse(&["10.0.0.0/33".into()]).unwrap_err(), "10.0.0.0/33");
    }
}
