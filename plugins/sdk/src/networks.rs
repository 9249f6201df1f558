use std::net::IpAddr;

use crate::ConfigErrors;

/// Addresses and networks as operators list them: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
///
/// ```
/// # use witgate_plugin::{ConfigErrors, Networks};
/// let mut errors = ConfigErrors::default();
/// let office = Networks::new(&["10.0.0.0/8".into(), "::1".into()], "allow", &mut errors);
/// assert!(errors.is_empty());
/// assert!(office.contain("10.1.2.3") && office.contain("::ffff:10.1.2.3") && !office.contain("192.0.2.7"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// Bits that count.
    length: u32,
}

impl Networks {
    /// Reads a list. Mistakes go to `errors`, each at its place under `key`.
    pub fn new(list: &[String], key: &str, errors: &mut ConfigErrors) -> Self {
        let mut networks = Vec::new();
        for (at, text) in list.iter().enumerate() {
            match Network::parse(text) {
                Ok(network) => networks.push(network),
                Err(mistake) => errors.push(format!("{key}.{at}"), mistake),
            }
        }
        Self(networks)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address without a port, as [`Exchange::client_address`](crate::Exchange::client_address) gives it, is in
    /// one of them. An IPv4 address in IPv6's clothes (`::ffff:192.0.2.7`) is that IPv4 address.
    pub fn contain(&self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else {
            return false;
        };
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        const RULE: &str =
            "must be an address or a network, like `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| RULE.to_owned())?;
        if address.to_canonical() != address {
            return Err("is an IPv4 address written as IPv6; write it as IPv4".into());
        }
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().ok().filter(|length| *length <= bits)
            }
            Some(_) => None,
            None => Some(bits),
        };
        let network = Self {
            address,
            length: length.ok_or_else(|| RULE.to_owned())?,
        };
        let first = network.first();
        if first != address {
            let length = network.length;
            return Err(format!(
                "has bits set behind the first {length}; write `{first}/{length}`"
            ));
        }
        Ok(network)
    }

    /// The address without the bits that do not count.
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let of_this_length = Self {
            address,
            length: self.length,
        };
        address.is_ipv4() == self.address.is_ipv4() && of_this_length.first() == self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Result<Networks, ConfigErrors> {
        let list: Vec<String> = list.iter().map(|&text| text.to_owned()).collect();
        let mut errors = ConfigErrors::default();
        let networks = Networks::new(&list, "allow", &mut errors);
        errors.into_result(networks)
    }

    #[test]
    fn a_network_is_all_addresses_that_begin_as_it_does() {
        for (network, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.127"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "0:0:0:0:0:0:0:1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
        ] {
            let networks = networks(&[network]).expect(network);
            assert!(networks.contain(inside), "{inside} in {network}");
            assert!(!networks.contain(outside), "{outside} not in {network}");
        }
        assert!(
            !networks(&["::/0"])
                .expect("it is one")
                .contain("no address")
        );
    }

    #[test]
    fn what_is_no_network_is_said_at_its_place() {
        let wrong = [
            "",
            "10",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::/129",
            "localhost",
            "::ffff:10.0.0.1",
            "10.0.0.1:80",
            "2001:db8::1/32",
        ];
        let errors = networks(&wrong).expect_err("all are wrong");
        let paths: Vec<_> = errors.iter().map(|(path, _)| path.to_owned()).collect();
        let expected: Vec<_> = (0..wrong.len()).map(|at| format!("allow.{at}")).collect();
        assert_eq!(paths, expected);
        let told: Vec<_> = errors.iter().map(|(_, told)| told).collect();
        assert!(told[2].contains("write `10.0.0.0/8`"), "{told:?}");
    }
}
