//! Whether a port is free, and if not, whose it is.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::failure::Result;

/// Refuses a port that somebody listens on, and says who.
pub(crate) fn require_free(port: u16, option: &str) -> Result<()> {
    // An address in use on all interfaces is in use on this one too.
    let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        return Ok(());
    };
    let who = owner(port).map_or_else(String::new, |who| format!(" by {who}"));
    let advice = format!(
        "stop it, or choose another port: {option} {}",
        port.checked_add(1).unwrap_or(3001)
    );
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return Err(format!("port {port} is already taken{who}; {advice}").into());
    }
    Err(format!("port {port} cannot be used: {error}; {advice}").into())
}

/// `postgres (process 4711)`, when the system lets us see it.
fn owner(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let process = processes
        .filter(|entry| is_number(&entry.file_name().to_string_lossy()))
        .find(|entry| {
            let open = std::fs::read_dir(entry.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .any(|link| link == Path::new(&socket))
        })?;
    let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!(
        "{} (process {})",
        name.trim(),
        process.file_name().to_string_lossy()
    ))
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The inode of the socket that listens on the port, from the text of `/proc/net/tcp`.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = columns.get(1)?.rsplit_once(':')?;
        let matches = u16::from_str_radix(local_port, 16) == Ok(port) && *columns.get(3)? == LISTEN;
        if matches {
            columns.get(9)?.parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14210 1 0 100 0 0 10 0
   1: 0100007F:0BBA 0100007F:C2E4 01 00000000:00000000 00:00000000 00000000     0        0 14211 1 0 20 4 0 10 -1
";

    #[test]
    fn only_a_listening_socket_counts() {
        assert_eq!(listening_inode(TABLE, 3001), Some(14210));
        assert_eq!(listening_inode(TABLE, 3002), None, "a connection, not a listener");
        assert_eq!(listening_inode("", 3001), None);
    }

    #[test]
    fn a_taken_port_is_refused_with_its_owner_and_a_way_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let refusal = require_free(port, "--port").expect_err("it is taken").to_string();
        assert!(
            refusal.contains(&format!("port {port} is already taken")),
            "{refusal}"
        );
        assert!(refusal.contains("--port"), "{refusal}");
        if cfg!(target_os = "linux") {
            assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        }
        drop(listener);
        require_free(port, "--port").expect("it is free again");
    }
}
