//! The page in a real browser: Chromium, driven headless through WebDriver.
//!
//! Needs `chromium` and `chromedriver` (Debian: `apt-get install -y chromium chromium-driver`). Where they are missing
//! the test says so loudly and passes. Screenshots of every step are left in `target/screenshots`.

#[path = "browser/operator.rs"]
mod operator;
#[path = "browser/status.rs"]
mod status;
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Setup, fixture, large_pdf, pdf, protected_pdf, workbook};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, WebDriver};
use zhuji_testkit::free_port;

/// Chromium, its driver, and where it leaves its pictures.
struct Browser {
    driver: WebDriver,
    /// Of the driver's own server.
    port: u16,
    shots: PathBuf,
    _processes: Processes,
}

/// The driver's process and the profile directory that tells this Chromium from every other.
struct Processes {
    chromedriver: Child,
    profile: TempDir,
}

impl Drop for Processes {
    fn drop(&mut self) {
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
        // A browser outlives its driver. All its processes name the profile directory, and nobody else does.
        let profile = self.profile.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process
                .file_name()
                .to_string_lossy()
                .parse()
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if let Some(pid) = pid
                && String::from_utf8_lossy(&command).contains(&profile)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Browser {
    /// Nothing when no Chromium is installed. With a width it is a phone of that many pixels.
    async fn start(phone: Option<u32>) -> Option<Self> {
        let (Some(chromium), Some(chromedriver)) = (
            program(&["chromium", "chromium-browser", "google-chrome"]),
            program(&["chromedriver"]),
        ) else {
            eprintln!("==================================================================================");
            eprintln!("SKIPPED the browser test: no Chromium. apt-get install -y chromium chromium-driver");
            eprintln!("==================================================================================");
            return None;
        };
        support::install_crypto();
        let profile = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let chromedriver = Command::new(chromedriver)
            .arg(format!("--port={port}"))
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs");
        let processes = Processes {
            chromedriver,
            profile,
        };
        let mut capabilities = DesiredCapabilities::chrome();
        capabilities
            .set_binary(&chromium.to_string_lossy())
            .expect("a path");
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-device-scale-factor=1",
            "--window-size=1280,900",
        ] {
            capabilities.add_arg(argument).expect("an argument");
        }
        let data = format!(
            "--user-data-dir={}",
            processes.profile.path().join("data").display()
        );
        capabilities.add_arg(&data).expect("an argument");
        if let Some(width) = phone {
            let metrics =
                serde_json::json!({"width": width, "height": 700, "pixelRatio": 2.0, "touch": true});
            let emulation = serde_json::json!({"deviceMetrics": metrics});
            capabilities
                .add_experimental_option("mobileEmulation", emulation)
                .expect("an option");
        }
        let logging = serde_json::json!({"browser": "ALL"});
        capabilities
            .set("goog:loggingPrefs", logging)
            .expect("a capability");
        let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
        std::fs::create_dir_all(&shots).expect("target can be written to");
        let start = Instant::now();
        let driver = loop {
            match WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities.clone()).await {
                Ok(driver) => break driver,
                Err(error) if start.elapsed() > Duration::from_secs(30) => panic!("no browser: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        Some(Self {
            driver,
            port,
            shots,
            _processes: processes,
        })
    }

    async fn find(&self, test_id: &str) -> WebElement {
        let selector = format!("[data-testid='{test_id}']");
        self.driver
            .query(By::Css(selector.clone()))
            .first()
            .await
            .unwrap_or_else(|_| panic!("no {selector}"))
    }

    async fn text(&self, test_id: &str) -> String {
        self.find(test_id).await.text().await.expect("it has a text")
    }

    async fn click(&self, test_id: &str) {
        let element = self.find(test_id).await;
        element
            .wait_until()
            .clickable()
            .await
            .unwrap_or_else(|_| panic!("{test_id} is not clickable"));
        element.click().await.expect("it can be clicked");
    }

    /// Waits until the text of an element holds these words.
    async fn wait_for(&self, test_id: &str, words: &str) {
        let start = Instant::now();
        loop {
            let text = self.text(test_id).await;
            if text.contains(words) {
                return;
            }
            if start.elapsed() > Duration::from_secs(30) {
                self.shot("failed").await;
                panic!("{test_id} says {text:?} and not {words:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn give_file(&self, test_id: &str, path: &Path) {
        self.find(test_id)
            .await
            .send_keys(path.to_string_lossy())
            .await
            .expect("the input takes files");
    }

    async fn shot(&self, name: &str) {
        // The panel slides in for a moment.
        tokio::time::sleep(Duration::from_millis(250)).await;
        self.driver
            .screenshot(&self.shots.join(format!("{name}.png")))
            .await
            .expect("it can be written");
    }

    async fn run(&self, script: &str) -> serde_json::Value {
        self.driver
            .execute(script, vec![])
            .await
            .expect("the script runs")
            .json()
            .clone()
    }

    /// Errors in the browser's console: refusals that the test provoked, and nothing of scripts or policies.
    async fn complained_only_of(&self, expected: &[&str]) {
        for entry in self.driver.browser_log().await.expect("chromium keeps one") {
            let is_expected = entry.message.contains("Failed to load resource")
                && expected.iter().any(|path| entry.message.contains(path));
            assert!(is_expected, "the browser complains: {}", entry.message);
        }
    }

    /// The page does not scroll sideways, and nothing that can be clicked or read is cut off at an edge.
    async fn fits(&self) {
        let script = "const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth; \
                      const cut = [...document.querySelectorAll('button, a, input, h1, h2, p, td, .badge')] \
                          .filter((one) => one.checkVisibility() && !one.matches('.hidden, .skip, .toast')) \
                          .filter((one) => { const box = one.getBoundingClientRect(); \
                              return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5); }) \
                          .map((one) => one.outerHTML.slice(0, 120)); \
                      return [wide, cut]";
        assert_eq!(self.run(script).await, serde_json::json!([0, []]));
    }
}

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .collect::<Vec<_>>();
    names
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(OsStr::new(name))))
        .find(|path| path.is_file())
}

fn file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("the directory can be written to");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_imports_uploads_searches_opens_and_deletes() {
    let Some(browser) = Browser::start(None).await else {
        return;
    };
    let setup = Setup::new().await;
    let service = setup.start().await;
    let files = tempfile::tempdir().expect("a temporary directory");
    browser
        .driver
        .goto(service.url("/"))
        .await
        .expect("the page loads");

    // Nothing there yet, and the service is well.
    browser.wait_for("empty", "No records yet").await;
    browser.wait_for("health", "Healthy").await;
    browser.shot("1-empty").await;

    // Import, with a file that is none first.
    browser.click("import-button").await;
    browser
        .give_file(
            "import-file",
            &file(files.path(), "notes.xlsx", b"title,year\nA,2020\n"),
        )
        .await;
    browser.wait_for("import-error", "CSV").await;
    browser.shot("2-import-refused").await;
    let made = workbook(&[
        &["title", "authors", "year", "journal", "abstract", "included"],
        &[
            "Blood lead and childhood",
            "A. One",
            "2020",
            "Lancet",
            "Lead in blood.",
            "1",
        ],
        &["Another record", "B. Two", "2019", "Nature", "", "0"],
        &["A third record", "C. Three", "2018", "Science", "", ""],
    ]);
    let real = fixture("menon_2022.xlsx");
    let (content, records) = real.as_deref().map_or((made.as_slice(), 3), |real| (real, 975));
    browser
        .give_file("import-file", &file(files.path(), "records.xlsx", content))
        .await;
    browser
        .wait_for("import-count", &format!("{records} records"))
        .await;
    browser.wait_for("import-facts", "none refused").await;
    browser.shot("3-import-summary").await;
    browser.click("import-close").await;
    browser.wait_for("total", &format!("{records} records")).await;
    browser.shot("4-list").await;
    browser.fits().await;

    // Pages.
    if records > 20 {
        browser.wait_for("pager-status", "Page 1 of 49").await;
        browser.click("pager-next").await;
        browser.wait_for("pager-status", "Page 2 of 49").await;
    }

    // Search as one types.
    browser
        .find("search-input")
        .await
        .send_keys("blood lead")
        .await
        .expect("it can be typed into");
    browser.wait_for("total", "for “blood lead”").await;
    browser.wait_for("record", "lead").await;
    browser.shot("5-search").await;
    browser.click("record").await;
    browser.wait_for("detail-title", "lood lead").await;

    // A file that is no PDF is refused in words.
    browser
        .give_file("pdf-file", &file(files.path(), "notes.pdf", b"plain text"))
        .await;
    browser.wait_for("upload-error", "not a PDF").await;

    // A large upload shows its progress.
    browser
        .run(
            "window.seen = []; const bar = document.querySelector('[data-testid=upload-progress]'); \
             new MutationObserver(() => window.seen.push(bar.value)).observe(bar, {attributes: true});",
        )
        .await;
    let big = file(files.path(), "large.pdf", &large_pdf(96 << 20));
    browser.give_file("pdf-file", &big).await;
    browser.shot("6-upload").await;
    browser.wait_for("pdf-facts", "96 MB stored").await;
    let seen = browser.run("return window.seen").await;
    let seen: Vec<f64> = seen
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(serde_json::Value::as_f64)
        .collect();
    assert!(
        seen.iter().any(|percent| (1.0..100.0).contains(percent)),
        "no progress was shown: {seen:?}"
    );
    assert!(seen.is_sorted(), "progress goes back: {seen:?}");

    // The real book takes its place, and its pages are counted.
    let real = fixture("geotopo.pdf");
    let made = pdf(7);
    let (content, pages) = real.as_deref().map_or((made.as_slice(), 7), |real| (real, 117));
    browser
        .give_file("pdf-file", &file(files.path(), "geotopo.pdf", content))
        .await;
    browser
        .wait_for("extraction-state", &format!("{pages} pages"))
        .await;
    browser.shot("7-detail").await;

    // The PDF opens in a tab of its own, through the signed address.
    let before = browser.driver.windows().await.expect("there are windows").len();
    let page = browser.driver.window().await.expect("there is a window");
    browser.click("open-pdf").await;
    let start = Instant::now();
    let tab = loop {
        let windows = browser.driver.windows().await.expect("there are windows");
        if windows.len() > before {
            break windows
                .into_iter()
                .find(|window| *window != page)
                .expect("a new one");
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no tab was opened");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    browser
        .driver
        .switch_to_window(tab)
        .await
        .expect("it can be looked at");
    let start = Instant::now();
    loop {
        let address = browser.driver.current_url().await.expect("it has an address");
        if address.path().starts_with("/uploads/asl/pdfs/") && address.query().is_some() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it shows {address}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    browser.driver.close_window().await.expect("it closes");
    browser
        .driver
        .switch_to_window(page)
        .await
        .expect("the page is still there");
    let fetched = browser
        .driver
        .execute_async(
            "const done = arguments[0]; const link = document.querySelector('[data-testid=open-pdf]'); \
             fetch(link.href).then(async (answer) => done([answer.status, answer.headers.get('content-type'), \
             (await answer.arrayBuffer()).byteLength])).catch((error) => done(String(error)));",
            vec![],
        )
        .await
        .expect("the script runs");
    assert_eq!(
        *fetched.json(),
        serde_json::json!([200, "application/pdf", content.len()])
    );

    // A protected PDF is stored, and says why it cannot be read.
    let protected = protected_pdf();
    browser
        .give_file("pdf-file", &file(files.path(), "protected.pdf", &protected))
        .await;
    browser.wait_for("extraction-error", "password").await;
    browser.shot("8-protected").await;

    // The keyboard closes the panel; what is shown survives a reload.
    browser
        .driver
        .action_chain()
        .send_keys(Key::Escape)
        .perform()
        .await
        .expect("keys work");
    let detail = browser.find("detail").await;
    detail.wait_until().not_displayed().await.expect("it closes");
    browser.driver.refresh().await.expect("it reloads");
    browser.wait_for("total", "for “blood lead”").await;

    // Delete, after a question.
    browser.click("record").await;
    browser.click("delete-record").await;
    browser.wait_for("confirm", "removed for good").await;
    browser.shot("9-confirm").await;
    browser.click("confirm-delete").await;
    browser.wait_for("toast", "deleted").await;
    browser
        .find("search-input")
        .await
        .clear()
        .await
        .expect("it can be cleared");
    browser
        .find("search-input")
        .await
        .send_keys(" ")
        .await
        .expect("it can be typed into");
    browser
        .wait_for("total", &format!("{} records", records - 1))
        .await;
    assert_eq!(setup.stored_pdfs(), Vec::<String>::new());

    browser.complained_only_of(&["import", "/pdf"]).await;
    browser.driver.clone().quit().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_the_smallest_phone() {
    let Some(browser) = Browser::start(Some(320)).await else {
        return;
    };
    let setup = Setup::new().await;
    let service = setup.start().await;
    let long = "Supercalifragilistic".repeat(20);
    let many: Vec<[String; 3]> = (0..45)
        .map(|n| {
            [
                format!("{n} {long}"),
                "An Author; Another Author".into(),
                format!("https://doi.org/10.1000/{long}{n}"),
            ]
        })
        .collect();
    let mut cells = vec![vec!["title", "authors", "doi", "included"]];
    cells.extend(
        many.iter()
            .map(|record| [&record[0], &record[1], &record[2]].map(String::as_str).to_vec()),
    );
    cells.push(vec!["", "No Title"]);
    let cells: Vec<&[&str]> = cells.iter().map(Vec::as_slice).collect();
    let files = tempfile::tempdir().expect("a temporary directory");

    browser
        .driver
        .goto(service.url("/"))
        .await
        .expect("the page loads");
    browser.wait_for("empty", "No records yet").await;
    browser.fits().await;
    browser.shot("phone-1-empty").await;
    browser.click("import-button").await;
    browser
        .give_file(
            "import-file",
            &file(files.path(), "records.xlsx", &workbook(&cells)),
        )
        .await;
    browser.wait_for("import-facts", "1 refused").await;
    browser.wait_for("refused-rows", "title is missing").await;
    browser.shot("phone-2-import").await;
    browser.fits().await;
    browser.click("import-close").await;
    browser.wait_for("total", "45 records").await;
    browser.fits().await;
    browser.shot("phone-3-list").await;
    browser.click("record").await;
    browser.wait_for("detail-title", "Supercali").await;
    browser
        .give_file("pdf-file", &file(files.path(), "small.pdf", &pdf(3)))
        .await;
    browser.wait_for("extraction-state", "3 pages").await;
    browser.shot("phone-4-detail").await;
    browser.fits().await;
    browser.click("delete-record").await;
    browser.wait_for("confirm", "removed for good").await;
    browser.shot("phone-5-confirm").await;
    browser.fits().await;
    browser.complained_only_of(&[]).await;
    browser.driver.clone().quit().await.expect("it ends");
}
