use crate::{Problem, ProblemKind, Schema, layer::Raw, loader::is_ours, redact, sources::Sources, suggest};

/// How many unknown variables are named one by one. A file full of them is the wrong file.
const NAMED: usize = 50;

/// The variables that are set, look like ours, and are not.
pub(crate) fn find(sources: &Sources, schema: &Schema) -> Vec<Problem> {
    let (mut problems, mut unnamed) = (Vec::new(), 0);
    let file_names: Vec<String> = schema.names().map(|name| format!("{name}_FILE")).collect();
    for layer in &sources.layers {
        for (name, entry) in &layer.entries {
            let known = || schema.names().any(|known| known == name) || file_names.contains(name);
            let like_ours = || is_ours(layer.rank) || schema.has_prefix_of(name);
            if entry.raw.is_empty() || !like_ours() || known() || is_service_link(name, &entry.raw) {
                continue;
            }
            unnamed += usize::from(problems.len() >= NAMED);
            if unnamed > 0 {
                continue;
            }
            let candidates = schema
                .names()
                .map(|name: &str| name)
                .chain(file_names.iter().map(String::as_str));
            let hint = match suggest::nearest(name, candidates) {
                Some(nearest) => format!("Did you mean {nearest}?"),
                None => "Remove it, or set CONFIG_UNKNOWN=warn to start in spite of it".to_owned(),
            };
            problems.push(
                Problem::new(redact::name(name), ProblemKind::Unknown)
                    .with_source(layer.source(entry))
                    .with_hint(hint),
            );
        }
    }
    if unnamed > 0 {
        problems.push(Problem::new(format!("and {unnamed} more"), ProblemKind::Unknown));
    }
    problems
}

/// Kubernetes sets `REDIS_SERVICE_HOST`, `REDIS_PORT_6379_TCP_ADDR` and others for every service called `redis`.
/// They are nobody's mistake.
fn is_service_link(name: &str, raw: &Raw) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") {
        return matches!(raw, Raw::Text(text) if text.starts_with("tcp://") || text.starts_with("udp://"));
    }
    let Some((_, rest)) = name.rsplit_once("_PORT_") else {
        return false;
    };
    let mut parts = rest.split('_');
    parts
        .next()
        .is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
        && parts
            .next()
            .is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
}
