//! A `rules.json` is refused or understood, and comes back as it went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zhuji_storage::StorageRules;

fuzz_target!(|text: &str| {
    if let Ok(rules) = StorageRules::from_json(text) {
        let again = StorageRules::from_json(&rules.to_json()).expect("what was written can be read");
        assert_eq!(rules, again);
    }
});
