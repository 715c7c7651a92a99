//! Input that is hostile, enormous or simply wrong: no panic, no hang, no secret in any output.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt, path::Path, time::Duration};

use proptest::prelude::*;
use zhuji_config::{
    ByteSize, Config, ConfigEnum, ConfigValue, Loader, Secret, SecretUrl, Sources, Url, format_duration,
    load, load_from_pairs, parse_duration,
};

const SECRET: &str = "hunter2-swordfish";

#[derive(ConfigEnum, Clone, Copy, Debug)]
enum Level {
    Low,
    High,
}

/// A type that quotes its input in its message, as a careless one would.
#[derive(Clone, Debug)]
struct Careless;

impl ConfigValue for Careless {
    const SECRET: bool = true;

    fn expected() -> String {
        "anything but this".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Err(format!("it is `{text}`"))
    }
}

#[derive(Config, Clone, Debug)]
#[config(prefixes("X_"))]
struct Everything {
    #[config(env = "X_TEXT")]
    text: Option<String>,
    #[config(env = "X_SECRET")]
    secret: Option<Secret>,
    #[config(env = "X_SECRETS")]
    secrets: Vec<Secret>,
    #[config(env = "X_CARELESS")]
    _careless: Option<Careless>,
    #[config(env = "X_PIN", secret)]
    _pin: Option<u32>,
    #[config(env = "X_NUMBER")]
    _number: Option<u16>,
    #[config(env = "X_FLOAT")]
    _float: Option<f64>,
    #[config(env = "X_DURATION")]
    _duration: Option<Duration>,
    #[config(env = "X_SIZE")]
    _size: Option<ByteSize>,
    #[config(env = "X_URL")]
    _url: Option<Url>,
    #[config(env = "X_SECRET_URL")]
    _secret_url: Option<SecretUrl>,
    #[config(env = "X_LEVEL")]
    _level: Option<Level>,
    #[config(env = "X_FLAG")]
    _flag: Option<bool>,
    #[config(env = "X_LIST")]
    _list: Vec<u16>,
}

/// Everything a person or a log could see of a load.
fn visible(sources: Sources) -> String {
    let mut text = format!("{sources:?} {sources:#?}");
    let mut loader = Loader::new(sources);
    let section = loader.load::<Everything>();
    text += &format!("{section:?} {section:#?} {loader:?} {:?}", loader.settings());
    text += &loader.settings().to_string();
    text += &loader.settings().to_json();
    text += &loader.report().to_string();
    match loader.finish() {
        Ok(loaded) => text + &format!("{loaded:?}"),
        Err(report) => text + &format!("{report} {report:?} {report:#?} {:?}", report.problems),
    }
}

#[test]
fn no_output_holds_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let nul = write("nul", &format!("{SECRET}\0"));
    let good = write("good", SECRET);
    let cases: Vec<Vec<(&str, String)>> = vec![
        vec![
            ("X_SECRET", SECRET.to_owned()),
            ("X_SECRETS", format!("a,{SECRET}")),
        ],
        vec![("X_CARELESS", SECRET.to_owned())],
        vec![("X_PIN", SECRET.to_owned())],
        vec![("X_SECRET", SECRET.to_owned()), ("X_SECRET_FILE", good.clone())],
        vec![("X_SECRET_FILE", good)],
        vec![("X_SECRET_FILE", nul)],
        // The secret itself, where a path belongs.
        vec![("X_SECRET_FILE", SECRET.to_owned())],
        vec![("X_SECRET_FILE", format!("/{SECRET}"))],
        vec![("X_SECRET_FILE", format!("ab/{SECRET}"))],
        vec![("X_SECRTE", SECRET.to_owned())],
        vec![("X_URL", format!("https://u:{SECRET}@h/p"))],
        vec![(
            "X_SECRET_URL",
            format!("https://u:{SECRET}@h/p?a={SECRET}#{SECRET}"),
        )],
        vec![("X_SECRET_URL", format!("https://u:{SECRET}@[h"))],
        vec![("X_URL", format!("https://u:{SECRET}@[h"))],
        vec![("X_URL", format!("https://u:p/{SECRET}/x@h@h/"))],
        vec![("X_NUMBER", format!("postgres://u:{SECRET}@h/db"))],
        vec![("X_LEVEL", format!("host=h password={SECRET}"))],
        vec![("X_LIST", format!("1,redis://:{SECRET}@h"))],
        vec![("CONFIG_UNKNOWN", format!("https://u:{SECRET}@h"))],
    ];
    for case in cases {
        let seen = visible(Sources::from_pairs(case.clone()));
        assert!(
            !seen.contains("hunter2") && !seen.contains("swordfish"),
            "{case:?}: {seen}"
        );
        // The same from the two files.
        let files = tempfile::tempdir().unwrap();
        let toml: String = case
            .iter()
            .map(|(name, value)| format!("{name} = {value:?}\n"))
            .collect();
        fs::write(files.path().join("zhuji.toml"), toml).unwrap();
        let env: String = case
            .iter()
            .map(|(name, value)| format!("{name}='{value}'\n"))
            .collect();
        fs::write(files.path().join(".env"), env).unwrap();
        let seen = visible(Sources::empty().with_files_in(files.path()));
        assert!(
            !seen.contains("hunter2") && !seen.contains("swordfish"),
            "{case:?}: {seen}"
        );
    }
}

#[test]
fn a_table_hides_what_a_text_should_not_hold() {
    let mut loader = Loader::new(Sources::from_pairs([("X_TEXT", format!("redis://:{SECRET}@h"))]));
    loader.load::<Everything>();
    assert_eq!(
        loader.settings().get("X_TEXT").unwrap().value.as_deref(),
        Some("redis://***@h")
    );
}

#[test]
fn a_secret_is_read_all_the_same() {
    let config = load_from_pairs::<Everything>([("X_SECRET", "007"), ("X_SECRETS", "true, 0x1")]).unwrap();
    assert_eq!(config.secret, Some(Secret::new("007")));
    assert_eq!(config.secrets, [Secret::new("true"), Secret::new("0x1")]);
}

#[test]
fn bytes_that_are_not_text() {
    let bad = || OsString::from_vec(vec![b'a', 0xff, b'b']);
    let pair = |name: &str, value: OsString| (OsString::from(name), value);
    let seen = visible(Sources::from_os_pairs([
        pair("X_TEXT", bad()),
        pair("X_SECRET", bad()),
        pair("X_UNKNOWN", bad()),
    ]));
    assert!(
        seen.contains("X_TEXT (environment): it is not UTF-8 text"),
        "{seen}"
    );
    assert!(
        seen.contains("X_SECRET (environment): its value was not accepted"),
        "{seen}"
    );
    assert!(
        seen.contains("X_UNKNOWN (environment) is not a variable"),
        "{seen}"
    );
    // Somebody else's variable may hold and be called what it likes.
    load::<Everything>(Sources::from_os_pairs([pair("OTHER", bad()), (bad(), bad())])).unwrap();
}

#[test]
fn characters_that_do_harm() {
    let report = load_from_pairs::<Everything>([
        ("X_TEXT", "a\0b"),
        ("X_NUMBER", "1\u{1b}[2J\n2. X_FAKE is fine\u{202e}"),
        ("X_\n9. fake\u{1b}[0m", "x"),
    ])
    .unwrap_err()
    .to_string();
    assert!(
        report.contains("X_TEXT (environment): it holds a NUL character"),
        "{report}"
    );
    assert_eq!(report.lines().count(), 4, "{report}");
    assert!(!report.contains(['\u{1b}', '\u{202e}']), "{report}");
}

#[test]
fn a_megabyte_is_a_value_and_not_a_message() {
    let long = "9".repeat(1_000_000);
    let config = load_from_pairs::<Everything>([("X_TEXT", &long)]).unwrap();
    assert_eq!(config.text.unwrap().len(), 1_000_000);
    for name in [
        "X_NUMBER",
        "X_FLOAT",
        "X_DURATION",
        "X_SIZE",
        "X_URL",
        "X_LEVEL",
        "X_FLAG",
        "X_LIST",
    ] {
        for long in [
            long.clone(),
            "x".repeat(1_000_000),
            "1.".repeat(500_000),
            "é".repeat(500_000),
        ] {
            let report = load_from_pairs::<Everything>([(name, long)]).unwrap_err();
            assert!(report.to_string().len() < 600, "{name}");
        }
    }
    let name = format!("X_{long}");
    let report = load_from_pairs::<Everything>([(name.as_str(), "1")]).unwrap_err();
    assert!(report.to_string().len() < 600);
}

#[test]
fn files_that_are_no_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("huge"), vec![b'a'; 1024 * 1024 + 1]).unwrap();
    fs::write(path("full"), vec![b'a'; 1024 * 1024]).unwrap();
    fs::write(path("binary"), [0xff, 0xfe, 0x00]).unwrap();
    fs::create_dir(path("directory")).unwrap();
    let read =
        |path: &Path| load::<Everything>(Sources::from_pairs([("X_TEXT_FILE", path.to_str().unwrap())]));
    for (name, reason) in [
        ("huge", "it is larger than 1 MiB"),
        ("binary", "it is not UTF-8 text"),
        ("directory", "it is not a regular file"),
        ("missing", "No such file"),
    ] {
        let report = read(&path(name)).unwrap_err().to_string();
        assert!(report.contains(reason), "{report}");
        let report = load::<Everything>(Sources::empty().with_file(&path(name)))
            .unwrap_err()
            .to_string();
        assert!(report.contains(reason), "{report}");
        let report = load::<Everything>(Sources::empty().with_dotenv(&path(name)))
            .unwrap_err()
            .to_string();
        assert!(report.contains(reason), "{report}");
    }
    // An endless device and a pipe nobody writes to are not waited for.
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    for endless in [path("pipe").as_path(), Path::new("/dev/zero")] {
        let report = read(endless).unwrap_err().to_string();
        assert!(report.contains("it is not a regular file"), "{report}");
    }
    assert_eq!(read(&path("full")).unwrap().text.unwrap().len(), 1024 * 1024);
}

#[test]
fn a_file_full_of_unknown_keys_ends_soon() {
    let directory = tempfile::tempdir().unwrap();
    let text: String = (0..60_000).map(|n| format!("X_KEY_{n} = 1\n")).collect();
    fs::write(directory.path().join("zhuji.toml"), text).unwrap();
    let report = load::<Everything>(Sources::empty().with_files_in(directory.path())).unwrap_err();
    assert_eq!(report.problems.len(), 51);
    assert!(
        report.to_string().contains("and 59950 more"),
        "{}",
        report.problems[50]
    );
}

#[test]
fn a_byte_order_mark_is_not_part_of_a_name() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".env"), "\u{feff}X_TEXT=a\r\n").unwrap();
    let config = load::<Everything>(Sources::empty().with_files_in(directory.path())).unwrap();
    assert_eq!(config.text.as_deref(), Some("a"));
}

proptest! {
    #[test]
    fn durations_read_back(seconds in 0..=u64::MAX, nanoseconds in 0..1_000_000_000_u32) {
        let duration = Duration::new(seconds, nanoseconds);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }

    #[test]
    fn sizes_read_back(bytes in any::<u64>(), shift in 0..64_u32) {
        for bytes in [bytes, bytes >> shift, (bytes >> shift) << shift] {
            let size = ByteSize::new(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}|[0-9.a-zA-Z_:/@,=+ -]{0,40}") {
        for name in ["X_NUMBER", "X_FLOAT", "X_DURATION", "X_SIZE", "X_URL", "X_LEVEL", "X_FLAG", "X_LIST", "X_PIN"] {
            if let Err(report) = load_from_pairs::<Everything>([(name, &text)]) {
                prop_assert_eq!(report.problems.len(), 1);
            }
        }
    }

    #[test]
    fn a_text_is_never_changed(text in "[^\0]+") {
        let config = load_from_pairs::<Everything>([("X_TEXT", &text), ("X_SECRET", &text)]).unwrap();
        prop_assert_eq!(config.text.as_deref(), Some(text.as_str()));
        prop_assert_eq!(config.secret.as_ref().map(Secret::expose), Some(text.as_str()));
    }
}
