//! What the peers are, as the lock file has it.

/// The version of a package of which the lock file has one.
pub(crate) fn of(package: &str) -> &'static str {
    const LOCK: &str = include_str!("../Cargo.lock");
    let head = format!("name = \"{package}\"\nversion = \"");
    LOCK.split_once(&head)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("?", |(version, _)| version)
}

/// Whether `name` (`sqlx 0.9, pool 8`) has the package's version, as far as it says one.
#[cfg(test)]
pub(crate) fn is_in(name: &str, package: &str) -> bool {
    let said = name
        .split([' ', ','])
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    said.is_some_and(|said| format!("{}.", of(package)).starts_with(&format!("{said}.")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_file_has_the_peers() {
        assert_eq!(super::of("riverqueue").split('.').count(), 3);
        assert_eq!(super::of("no such package"), "?");
        assert!(!super::is_in("riverqueue 77", "riverqueue"));
    }
}
