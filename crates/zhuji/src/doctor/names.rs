//! Every host that the settings name, resolved.

use std::net::IpAddr;

use url::Url;

use super::{Finding, Patient};

const MEND: &str = "correct the name, or add it to the DNS that this machine asks (/etc/resolv.conf, the VPC's private zone)";

struct Host {
    variable: &'static str,
    name: String,
    port: u16,
}

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let hosts = hosts(patient);
    if hosts.is_empty() {
        return vec![Finding::ok("dns", "the settings name no host that needs one")];
    }
    let lookups = hosts
        .iter()
        .map(|host| tokio::net::lookup_host((host.name.as_str(), host.port)));
    let answers = futures_util::future::join_all(lookups).await;
    let (mut known, mut found) = (Vec::new(), Vec::new());
    for (host, answer) in hosts.iter().zip(answers) {
        let first = answer.map(|mut addresses| addresses.next().map(|address| address.ip()));
        let why = match first {
            Ok(Some(address)) => {
                known.push(format!("{} is {address}", host.name));
                continue;
            }
            Ok(None) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        let evidence = format!("{} of {} can't be resolved: {why}", host.name, host.variable);
        // A service need not find itself.
        found.push(match host.variable {
            "BASE_URL" => Finding::warning("dns", evidence, MEND),
            _ => Finding::error("dns", evidence, MEND),
        });
    }
    if !known.is_empty() {
        found.insert(0, Finding::ok("dns", known.join(", ")));
    }
    found
}

fn hosts(patient: &Patient<'_>) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut add = |variable, name: &str, port: u16| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let known = hosts.iter().any(|host| host.name == bare);
        if !known && bare.parse::<IpAddr>().is_err() {
            hosts.push(Host {
                variable,
                name: bare.to_owned(),
                port,
            });
        }
    };
    if let Some(db) = patient.db.here() {
        for place in db.addresses().iter().filter(|place| !place.is_socket) {
            add(place.variable, &place.host, place.port);
        }
    }
    let mut add_url = |variable, url: Option<&Url>| {
        if let Some((url, name)) = url.and_then(|url| Some((url, url.host_str()?))) {
            add(variable, name, url.port_or_known_default().unwrap_or(443));
        }
    };
    if let Some(storage) = patient.storage.here() {
        let oss = storage.oss_addresses();
        add_url("OSS_ENDPOINT", oss.as_ref().map(|(traffic, _)| traffic));
        add_url("STORAGE_PUBLIC_URL", oss.as_ref().map(|(_, public)| public));
    }
    add_url(
        "BASE_URL",
        patient
            .service
            .as_ref()
            .and_then(|service| service.base_url.as_ref()),
    );
    add_url("REDIS_URL", super::redis::url(patient).as_ref());
    let llm = patient.llm.as_ref().filter(|llm| llm.api_key.is_some());
    add_url("LLM_BASE_URL", llm.map(|llm| &llm.base_url));
    hosts
}
