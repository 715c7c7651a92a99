//! What the service really asked OSS for, held to the policy of its role.

use std::collections::BTreeSet;

use serde_json::Value;
use zhuji_testkit::oss::OssRequestRecord;

use super::sae::{statements, texts};
use crate::failure::Result;

/// The right that a request takes, by OSS's documentation.
fn action(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "PutObject"
        | "InitiateMultipartUpload"
        | "UploadPart"
        | "CompleteMultipartUpload"
        | "CopyObject"
        | "UploadPartCopy"
        | "AppendObject" => "oss:PutObject",
        "GetObject" | "HeadObject" | "GetObjectMeta" => "oss:GetObject",
        "DeleteObject" | "DeleteMultipleObjects" => "oss:DeleteObject",
        "AbortMultipartUpload" => "oss:AbortMultipartUpload",
        "ListParts" => "oss:ListParts",
        "ListObjects" | "ListObjectsV2" => "oss:ListObjects",
        "ListMultipartUploads" => "oss:ListMultipartUploads",
        _ => return None,
    })
}

/// Every request was one that the policy allows. Answers with the kinds of requests that were seen.
pub(super) fn allows(policy: &Value, requests: &[OssRequestRecord]) -> Result<usize> {
    let mut seen = BTreeSet::new();
    for request in requests {
        // Signed addresses are used by browsers, with the rights of who signed them: those count as well.
        let action = action(&request.operation).ok_or_else(|| {
            format!(
                "the service asked OSS for {}, which no right is known for",
                request.operation
            )
        })?;
        let bucket = request.bucket.clone().unwrap_or_default();
        let prefix = request.query.iter().find(|(name, _)| name == "prefix");
        let prefix = prefix.map_or("", |(_, prefix)| prefix);
        let resource = match request.key.as_str() {
            "" => format!("acs:oss:*:*:{bucket}"),
            key => format!("acs:oss:*:*:{bucket}/{key}"),
        };
        let allowed = statements(policy)?
            .iter()
            .any(|statement| permits(statement, action, &resource, prefix));
        if !allowed {
            return Err(format!(
                "the service asked for {} on {resource} (prefix `{prefix}`), which the policy does not allow",
                request.operation
            )
            .into());
        }
        seen.insert(request.operation.clone());
    }
    Ok(seen.len())
}

fn permits(statement: &Value, action: &str, resource: &str, prefix: &str) -> bool {
    let prefixes = texts(&statement["Condition"]["StringLike"]["oss:Prefix"]);
    texts(&statement["Action"]).contains(&action)
        && texts(&statement["Resource"])
            .iter()
            .any(|pattern| like(pattern, resource))
        && (prefixes.is_empty() || prefixes.iter().any(|pattern| like(pattern, prefix)))
}

/// A final `*` stands for anything.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_statement_permits_its_action_on_its_prefix_only() {
        let statement =
            json!({"Effect": "Allow", "Action": ["oss:GetObject"], "Resource": ["acs:oss:*:*:b/asl/*"]});
        assert!(permits(&statement, "oss:GetObject", "acs:oss:*:*:b/asl/x", ""));
        assert!(!permits(&statement, "oss:PutObject", "acs:oss:*:*:b/asl/x", ""));
        assert!(!permits(&statement, "oss:GetObject", "acs:oss:*:*:b/aslx", ""));
        let list = json!({
            "Action": "oss:ListObjects", "Resource": "acs:oss:*:*:b",
            "Condition": {"StringLike": {"oss:Prefix": ["asl/*"]}}
        });
        assert!(permits(&list, "oss:ListObjects", "acs:oss:*:*:b", "asl/pdfs/"));
        assert!(!permits(&list, "oss:ListObjects", "acs:oss:*:*:b", ""));
    }
}
