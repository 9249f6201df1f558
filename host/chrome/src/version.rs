//! Which Chromium wrote a profile, and whether an older one runs on it now.

use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The file in which Chromium notes its version at every start, inside the profile.
const LAST_VERSION: &str = "Last Version";

/// Milestone, minor, build and patch. Ordered as releases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BrowserVersion([u32; 4]);

impl FromStr for BrowserVersion {
    type Err = ();

    /// `156.0.8078.79`, or the same after a product: `Chrome/156.0.8078.79`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let numbers = text.rsplit('/').next().unwrap_or(text).trim();
        let mut version = [0; 4];
        let mut parts = numbers.split('.');
        for number in &mut version {
            *number = parts.next().ok_or(())?.parse().map_err(|_| ())?;
        }
        match parts.next() {
            None => Ok(Self(version)),
            Some(_) => Err(()),
        }
    }
}

/// The version that a profile was last used with, as Chromium noted it; `None` for a fresh profile.
pub(crate) fn of_profile(profile: &Path) -> Option<String> {
    let text = fs::read_to_string(profile.join(LAST_VERSION)).ok()?;
    let text = text.trim();
    text.parse::<BrowserVersion>().is_ok().then(|| text.into())
}

/// Whether `browser` is older than `last`, the version of its profile. Unknown versions are not.
pub(crate) fn is_older(browser: &str, last: &str) -> bool {
    match (browser.parse::<BrowserVersion>(), last.parse()) {
        (Ok(browser), Ok(last)) => browser < last,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        assert!(is_older("Chrome/99.0.4844.51", "156.0.8078.79"));
        assert!(is_older("Chrome/156.0.8078.79", "156.0.8078.100"));
        assert!(!is_older("Chrome/156.0.8078.79", "156.0.8078.79"));
        assert!(!is_older("Chrome/156.0.8078.79", "99.0.1.1"));
        assert!(!is_older("Chrome/next", "156.0.8078.79"));
    }

    #[test]
    fn a_profile_tells_its_version_unless_it_is_fresh_or_foreign() {
        let profile = tempfile::tempdir().unwrap();
        assert_eq!(of_profile(profile.path()), None);
        fs::write(profile.path().join(LAST_VERSION), "156.0.8078.79").unwrap();
        assert_eq!(of_profile(profile.path()).as_deref(), Some("156.0.8078.79"));
        fs::write(profile.path().join(LAST_VERSION), "something else").unwrap();
        assert_eq!(of_profile(profile.path()), None);
    }
}
