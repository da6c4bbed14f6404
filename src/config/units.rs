//! Reads the written form of durations, sizes, numbers, addresses, networks and URLs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::report::{Wrong, quote};

/// Largest first, for printing; in milliseconds.
pub(super) const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Largest first, for printing; in bytes.
pub(super) const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The number at the head of `text`, and the word behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit.trim_start_matches(' ')))
}

/// A whole number with its unit: `500ms`, `5s`, `2m`, `24h`, `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || Wrong::value("not a duration").hint("write a whole number with a unit: 500ms, 5s, 2m, 24h or 30d");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    if unit.is_empty() {
        return Err(Wrong::value("a duration needs a unit").hint(format!("write {number}s for seconds")));
    }
    let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        return Err(meant(number, unit).map_or_else(wrong, |hint| Wrong::value("unknown unit of time").hint(hint)));
    };
    number
        .checked_mul(*factor)
        .map(Duration::from_millis)
        .ok_or_else(|| Wrong::value("too long a duration").hint("no key takes more than some years"))
}

/// `5 seconds`, `1w` and the like: the one spelling.
fn meant(number: u64, unit: &str) -> Option<String> {
    let unit = unit.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| unit == *word || unit == format!("{word}s"));
    let name = match () {
        () if is(&["ms", "msec", "millisecond", "milli"]) => "ms",
        () if is(&["s", "sec", "second"]) => "s",
        () if is(&["m", "min", "minute"]) => "m",
        () if is(&["h", "hr", "hour"]) => "h",
        () if is(&["d", "day"]) => "d",
        () if is(&["w", "week"]) => return Some(format!("write {}d", number.checked_mul(7)?)),
        () => return None,
    };
    Some(format!("write {number}{name}"))
}

/// Bytes: a whole number, bare or with a unit of powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let wrong =
        || Wrong::value("not a size").hint("write bytes, or a whole number with a unit: 30720, 16KiB, 4MiB or 10GiB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    if unit.is_empty() {
        return Ok(number);
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        // 16K, 16kb and the like: say the one spelling.
        let first = unit.get(..1).unwrap_or_default().to_ascii_uppercase();
        let meant = SIZES.iter().find(|(name, _)| unit.len() <= 3 && name.starts_with(&first));
        return Err(meant.map_or_else(wrong, |(name, _)| {
            Wrong::value("unknown unit of size").hint(format!("write {number}{name}"))
        }));
    };
    number.checked_mul(*factor).ok_or_else(|| {
        Wrong::value("too large a size").hint("write bytes, or a unit that fits: 30720, 16KiB, 4MiB or 10GiB")
    })
}

/// The shortest exact form.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &DURATIONS, "0s")
}

pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES, "0")
}

fn show(number: u64, units: &[(&str, u64)], zero: &str) -> String {
    let unit = units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    unit.map_or_else(|| zero.to_owned(), |(name, factor)| format!("{}{name}", number / factor))
}

pub(super) fn count(text: &str) -> Result<u64, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| Wrong::value("not a whole number").hint("write digits only"))
}

/// A rate of events, in thousandths: up to three decimals.
pub(super) fn thousandths(text: &str) -> Result<u64, Wrong> {
    let wrong = || Wrong::value("not a number").hint("write digits with at most three decimals: 10 or 0.25");
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    if rest.is_empty() || rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole = count(whole).map_err(|_| wrong())?;
    let part: u64 = format!("{rest:0<3}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1000).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

/// `IP:port`; `localhost` is the loopback address. No names: nothing is looked up while reading.
pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let hint = match (host, port.parse::<u16>()) {
        ("localhost", Ok(port)) => return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        ("" | "*", Ok(port)) => {
            format!("write \"0.0.0.0:{port}\" for every IPv4 address, \"[::]:{port}\" for IPv6 too")
        }
        (name, Ok(_)) if name.bytes().any(|byte| byte.is_ascii_alphabetic()) && !name.contains(':') => {
            "names are not looked up: write an IP address and a port, \"0.0.0.0:8080\", or localhost".to_owned()
        }
        _ => "write an IP address and a port: \"0.0.0.0:8080\" or \"[::1]:8080\"".to_owned(),
    };
    Err(Wrong::value("not an address").hint(hint))
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Result<(IpAddr, u8), Wrong> {
    let wrong = || Wrong::value("not a network").hint("write an address, or one with a prefix length: 10.0.0.0/8");
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => longest,
        Some(length) => u8::try_from(count(length).map_err(|_| wrong())?).map_err(|_| wrong())?,
    };
    if length > longest {
        return Err(Wrong::value(format!("a prefix of {length} bits, where an address has {longest}"))
            .hint(format!("write {address}/{longest} for this one address, or a shorter prefix for a network")));
    }
    let start = first(address, length);
    if start == address {
        return Ok((address, length));
    }
    Err(Wrong::value("the address has bits beyond the prefix").hint(format!("write {start}/{length}")))
}

/// The network's first address.
fn first(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// An absolute http or https URL. Messages do not repeat it: a path can be a secret.
pub(super) fn url(text: &str) -> Result<hyper::Uri, Wrong> {
    let example = "write it whole, with https:// or http://: https://incidents.example.com/hook";
    let uri: hyper::Uri = text.parse().map_err(|_| Wrong::value("not a URL").hint(example))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(scheme) => {
            return Err(Wrong::value(format!("a URL of scheme {}", quote(scheme))).hint("use https:// or http://"));
        }
        None => return Err(Wrong::value("not an absolute URL").hint(example)),
    }
    let authority = uri.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        let wrong = Wrong::value("a URL with a user name or password in it");
        return Err(wrong.hint("set `credential` or `credential_file` instead"));
    }
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || host == "[]" {
        return Err(Wrong::value("a URL without a host").hint(example));
    }
    if authority.len() > host.len() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(Wrong::value("a URL with a port that does not exist").hint("ports are 1 to 65535"));
    }
    if text.contains('#') {
        return Err(Wrong::value("a URL with a fragment").hint("remove \"#\" and what follows: it is never sent"));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_each_unit_and_nothing_else() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5000), ("2m", 120_000), ("24h", 86_400_000), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
            assert_eq!(
                duration(&show_duration(Duration::from_millis(millis))).unwrap().as_millis(),
                u128::from(millis)
            );
        }
        for text in
            ["", "s", "-1s", "1.5s", "1 day", "1w", "1S", "１s", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_no_duration_and_the_hint_says_what_to_write() {
        assert_eq!(duration("10").unwrap_err().hint.unwrap(), "write 10s for seconds");
        for (text, hint) in [("5 seconds", "5s"), ("1 Day", "1d"), ("2w", "14d"), ("3mins", "3m"), ("9 msec", "9ms")] {
            assert_eq!(duration(text).unwrap_err().hint.unwrap(), format!("write {hint}"));
        }
        assert!(duration("5 moons").unwrap_err().hint.unwrap().contains("500ms, 5s"));
    }

    #[test]
    fn sizes_are_bytes_or_take_units_of_1024() {
        for (text, bytes) in [("30720", 30_720), ("16KiB", 16_384), ("4MiB", 4 << 20), ("10GiB", 10 << 30), ("7B", 7)] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
            assert_eq!(size(&show_size(bytes)).unwrap(), bytes);
        }
        for text in ["", "KiB", "-1", "1.5MiB", "16 KiB x", "99999999TiB", "1é"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("16k").unwrap_err().hint.unwrap(), "write 16KiB");
        assert_eq!(size("4MB").unwrap_err().hint.unwrap(), "write 4MiB");
    }

    #[test]
    fn rates_take_three_decimals() {
        for (text, value) in [("10", 10_000), ("0.25", 250), ("1.5", 1500), ("0.001", 1)] {
            assert_eq!(thousandths(text).unwrap(), value, "{text}");
        }
        for text in ["", ".", ".5", "1.", "1.2345", "-1", "1e3", "99999999999999999"] {
            assert!(thousandths(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_ip_and_port() {
        assert_eq!(address("localhost:80").unwrap(), "127.0.0.1:80".parse().unwrap());
        assert_eq!(address("[::1]:80").unwrap(), "[::1]:80".parse().unwrap());
        assert!(address(":8080").unwrap_err().hint.unwrap().contains("0.0.0.0:8080"));
        for text in ["", "8080", "10.0.0.1", "host:80", "1.2.3.4:70000", "::1:80x"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_addresses_with_a_prefix() {
        assert_eq!(network("10.0.0.0/8").unwrap(), ("10.0.0.0".parse().unwrap(), 8));
        assert_eq!(network("10.1.2.3").unwrap(), ("10.1.2.3".parse().unwrap(), 32));
        assert_eq!(network("0.0.0.0/0").unwrap(), ("0.0.0.0".parse().unwrap(), 0));
        assert_eq!(network("::/0").unwrap(), ("::".parse().unwrap(), 0));
        assert_eq!(network("2001:db8::/32").unwrap(), ("2001:db8::".parse().unwrap(), 32));
        assert_eq!(network("10.1.2.3/8").unwrap_err().hint.unwrap(), "write 10.0.0.0/8");
        for text in ["", "/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "::/129", "example.com"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_are_absolute_and_carry_no_credentials() {
        for text in ["https://a.example/hook", "http://[::1]:8080", "http://127.0.0.1:80/x?y=z"] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "/hook",
            "a.example",
            "a.example:80",
            "ftp://a.example",
            "https://",
            "https:///hook",
            "https://user:pass@a.example",
            "https://a.example:99999/",
            "https://a.example:0/",
            "https://a.example/#x",
            "https://a b/",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
