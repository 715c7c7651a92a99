//! Tests in a network that leads nowhere.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use rustix::process::{getegid, geteuid};

use crate::process::find_in_path;

/// Set for the test that runs inside.
const INSIDE: &str = "ZHUJI_TESTKIT_OFFLINE";

/// Brings up loopback, and becomes what follows.
const ENTER: &str = r#"ip link set lo up && exec "$@""#;

/// Where the calling test is, see [`offline`].
#[derive(Debug)]
pub enum Offline {
    /// In a network namespace whose only interface is loopback.
    Inside(LonelyNetwork),
    /// Outside; the same test has passed inside, and this was its output.
    Passed(String),
    /// Outside, on a machine that has no such namespaces; the reason.
    Impossible(String),
}

/// Runs the calling test again in a network namespace of its own with nothing but loopback, and tells it where it is.
///
/// `test` is the test's full name in its binary, such as `modes::standalone`. What it starts inside runs inside too; so a
/// server of `TEST_DATABASE_URL` is forgotten there, and a private one is started. Where namespaces take root, a user
/// namespace is tried.
///
/// # Panics
/// When the test fails inside; its output is in the message.
pub fn offline(test: &str) -> Offline {
    if std::env::var_os(INSIDE).is_some() {
        return Offline::Inside(LonelyNetwork::look());
    }
    let mut enter = match namespace() {
        Ok(enter) => enter,
        Err(reason) => return Offline::Impossible(reason),
    };
    let this = std::env::current_exe().expect("a test knows its own program");
    enter
        .arg(this)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env_remove("TEST_DATABASE_URL");
    let output = enter.output().expect("it was tried a moment ago");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // A name that no test has would pass as well.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test} fails without a network ({}):\n{said}",
        output.status
    );
    Offline::Passed(said)
}

/// A command that runs what it is given in a new network namespace, tried once; or why there can be none.
fn namespace() -> Result<Command, String> {
    for (program, package) in [("unshare", "util-linux"), ("ip", "iproute2")] {
        if find_in_path(program).is_none() {
            return Err(format!("{program} was not found: apt-get install -y {package}"));
        }
    }
    let enter = || {
        let mut enter = Command::new("unshare");
        if geteuid().is_root() {
            enter.args(["--net", "--", "sh", "-c", ENTER, "sh"]);
        } else {
            // Root inside, to bring up the interface; then itself again, because servers refuse to run as root.
            enter.args([
                "--user",
                "--map-root-user",
                "--net",
                "--",
                "sh",
                "-c",
                ENTER,
                "sh",
            ]);
            enter.args(["unshare", "--user"]);
            enter.arg(format!("--map-user={}", geteuid().as_raw()));
            enter.arg(format!("--map-group={}", getegid().as_raw()));
            enter.arg("--");
        }
        enter
    };
    match enter().arg("true").output() {
        Ok(output) if output.status.success() => Ok(enter()),
        Ok(output) => Err(format!(
            "this machine allows no network namespace: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("unshare could not be run: {error}")),
    }
}

/// The network namespace of this process: loopback alone.
#[derive(Debug)]
pub struct LonelyNetwork {
    refused_before: u64,
}

impl LonelyNetwork {
    /// Looks whether it is one, and whether the kernel counts those who try to leave.
    fn look() -> Self {
        let interfaces = interfaces();
        assert_eq!(interfaces, ["lo"], "there is a way out");
        assert_eq!(routes(), Vec::<String>::new(), "there is a way out");
        let before = refused();
        // Connecting a datagram socket looks for a route, and sends nothing. The address is one of those that documents
        // use, and nobody has.
        let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a free port");
        let error = socket.connect(("192.0.2.1", 9)).expect_err("there is no route");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
        let refused_before = refused();
        assert_eq!(refused_before, before + 1, "the kernel does not count");
        Self { refused_before }
    }

    /// How often somebody in this namespace has tried to reach an address outside since the test began: the kernel counts
    /// every connection and datagram for which it found no route, whoever wanted it.
    pub fn tried_to_leave(&self) -> u64 {
        refused() - self.refused_before
    }
}

fn read(file: &str) -> String {
    let path = Path::new("/proc/self/net").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn interfaces() -> Vec<String> {
    let text = read("dev");
    text.lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .filter(|name| !name.contains('|'))
        .collect()
}

/// The routes of IPv4; loopback has none there.
fn routes() -> Vec<String> {
    read("route")
        .lines()
        .skip(1)
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

fn refused() -> u64 {
    let of_6 = if Path::new("/proc/self/net/snmp6").exists() {
        read("snmp6")
    } else {
        String::new()
    };
    no_routes(&read("snmp"), &of_6)
}

/// The sum of both protocols' counters. The table of IPv4 has a line of names above each line of values.
fn no_routes(of_4: &str, of_6: &str) -> u64 {
    let mut ip = of_4.lines().filter(|line| line.starts_with("Ip: "));
    let names = ip.next().unwrap_or_default().split_whitespace();
    let values = ip.next().unwrap_or_default().split_whitespace();
    let four = names
        .zip(values)
        .find(|(name, _)| *name == "OutNoRoutes")
        .map(|(_, value)| value);
    let six = of_6.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes"));
    let number = |value: Option<&str>| value.and_then(|value| value.trim().parse::<u64>().ok());
    number(four).expect("Linux counts them") + number(six).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_are_counted() {
        let of_4 = "Ip: Forwarding InReceives OutNoRoutes\nIp: 2 10 3\nIcmp: InMsgs\nIcmp: 9\n";
        assert_eq!(
            no_routes(of_4, "Ip6InReceives \t7\nIp6OutNoRoutes                  \t4\n"),
            7
        );
        assert_eq!(no_routes(of_4, ""), 3);
    }

    #[test]
    fn inside_there_is_no_way_out() {
        match offline("offline::tests::inside_there_is_no_way_out") {
            Offline::Inside(network) => {
                std::net::TcpStream::connect(("192.0.2.1", 80)).expect_err("there is no route");
                assert_eq!(network.tried_to_leave(), 1);
                let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
                let address = listener.local_addr().expect("it is bound");
                std::net::TcpStream::connect(address).expect("loopback is up");
                assert_eq!(network.tried_to_leave(), 1);
            }
            Offline::Passed(said) => assert!(said.contains("inside_there_is_no_way_out"), "{said}"),
            Offline::Impossible(reason) => eprintln!("SKIPPED: a network that leads nowhere: {reason}"),
        }
    }
}
