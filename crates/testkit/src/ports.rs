use std::net::{Ipv4Addr, TcpListener};

/// A TCP port on 127.0.0.1 that nobody was listening on a moment ago.
///
/// Another process may take it before the caller does, so whoever starts a server on it has to be ready to try again.
///
/// # Panics
/// When the system has no free port left.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
