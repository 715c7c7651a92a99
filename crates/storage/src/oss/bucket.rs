//! The rules of a bucket: lifecycle, CORS, versioning.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, header};
use md5::{Digest, Md5};
use quick_xml::escape::escape;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    client::{Client, Request},
    put::unexpected,
    xml,
};
use crate::{
    CorsRule, ErrorKind, LifecycleRule, Result, RulesSection, StorageClass, StorageRules, Transition,
    Versioning,
};

/// Reads the sections that are asked for; one request each.
pub(super) async fn rules(client: &Client, sections: &[RulesSection]) -> Result<StorageRules> {
    let mut rules = StorageRules::default();
    for section in sections {
        let request = request(client, Method::GET, *section);
        let body = match client.send_and_read(&request).await {
            Ok((_, body)) => body,
            // "No such configuration": the bucket is there, or the error would be another. One without the id of a request is
            // not from OSS.
            Err(error) if error.kind() == ErrorKind::NotFound && error.request_id().is_some() => "".into(),
            Err(error) => return Err(error),
        };
        let wrong = |why| unexpected(&request, why);
        match section {
            RulesSection::Lifecycle => rules.lifecycle = Some(lifecycle(&body).map_err(wrong)?),
            RulesSection::Cors => rules.cors = Some(cors(&body).map_err(wrong)?),
            RulesSection::Versioning => rules.versioning = versioning(&body).map_err(wrong)?,
        }
    }
    Ok(rules)
}

/// Replaces the sections that are there. A list without rules is deleted: OSS takes no empty ones.
pub(super) async fn set_rules(client: &Client, rules: &StorageRules) -> Result<()> {
    if let Some(rules) = &rules.lifecycle {
        let body = (!rules.is_empty()).then(|| lifecycle_body(rules));
        replace(client, RulesSection::Lifecycle, body).await?;
    }
    if let Some(rules) = &rules.cors {
        let body = (!rules.is_empty()).then(|| cors_body(rules));
        replace(client, RulesSection::Cors, body).await?;
    }
    if let Some(versioning) = rules.versioning {
        let status = match versioning {
            Versioning::Enabled => "Enabled",
            Versioning::Suspended => "Suspended",
        };
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        replace(client, RulesSection::Versioning, Some(body)).await?;
    }
    Ok(())
}

fn request(client: &Client, method: Method, section: RulesSection) -> Request {
    let mut request = Request::new("rules", method, "").query(section.as_str(), "");
    request.subject = format!("{} of bucket {}", section.as_str(), client.bucket());
    request
}

async fn replace(client: &Client, section: RulesSection, body: Option<String>) -> Result<()> {
    let request = match body {
        Some(body) => {
            let digest = STANDARD.encode(Md5::digest(body.as_bytes()));
            request(client, Method::PUT, section)
                .header("content-md5", &digest)?
                .header(header::CONTENT_TYPE, "application/xml")?
                .body(body)
        }
        None => request(client, Method::DELETE, section),
    };
    client.send_and_read(&request).await.map(drop)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LifecycleBody {
    #[serde(rename = "Rule")]
    rules: Vec<RuleBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RuleBody {
    #[serde(rename = "ID")]
    id: Option<String>,
    prefix: String,
    status: String,
    tag: Vec<TagBody>,
    expiration: Option<WhenBody>,
    transition: Vec<WhenBody>,
    abort_multipart_upload: Option<WhenBody>,
    noncurrent_version_expiration: Option<WhenBody>,
    noncurrent_version_transition: Vec<IgnoredAny>,
    filter: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct TagBody {
    key: String,
    value: String,
}

/// What all actions have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WhenBody {
    days: Option<u32>,
    noncurrent_days: Option<u32>,
    #[serde(alias = "Date")]
    created_before_date: Option<String>,
    storage_class: Option<String>,
    is_access_time: Option<bool>,
    expired_object_delete_marker: Option<bool>,
}

fn lifecycle(body: &[u8]) -> Result<Vec<LifecycleRule>, String> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let found: LifecycleBody = xml::parse(body, "LifecycleConfiguration")?;
    Ok(found.rules.into_iter().map(lifecycle_rule).collect())
}

/// What `rules.json` can't express is kept by its name, so that nobody overwrites it unseen.
fn lifecycle_rule(found: RuleBody) -> LifecycleRule {
    let mut rule = LifecycleRule::new(found.prefix);
    let mut foreign = Vec::new();
    let mut note = |there: bool, name: &str| foreign.extend(there.then(|| name.to_owned()));
    rule.id = found.id.filter(|id| !id.is_empty());
    rule.enabled = found.status == "Enabled";
    rule.tags = found.tag.into_iter().map(|tag| (tag.key, tag.value)).collect();
    if let Some(when) = found.expiration {
        rule.expire_after_days = when.days;
        let date = when.created_before_date;
        rule.expire_before = date.as_deref().and_then(|text| text.get(..10)?.parse().ok());
        note(
            when.expired_object_delete_marker == Some(true),
            "Expiration.ExpiredObjectDeleteMarker",
        );
        note(
            date.is_some() && rule.expire_before.is_none(),
            "Expiration.CreatedBeforeDate",
        );
    }
    for when in found.transition {
        let class = StorageClass::EACH
            .into_iter()
            .find(|class| Some(class.as_str()) == when.storage_class.as_deref());
        match (class, when.days, when.is_access_time) {
            (Some(to), Some(after_days), None | Some(false)) => {
                rule.transitions.push(Transition { to, after_days });
            }
            (_, _, Some(true)) => note(true, "Transition.IsAccessTime"),
            (_, None, _) => note(true, "Transition.CreatedBeforeDate"),
            (None, ..) => note(true, "Transition.StorageClass"),
        }
    }
    if let Some(when) = found.abort_multipart_upload {
        rule.abort_unfinished_uploads_after_days = when.days;
        note(when.days.is_none(), "AbortMultipartUpload.CreatedBeforeDate");
    }
    if let Some(when) = found.noncurrent_version_expiration {
        rule.expire_old_versions_after_days = when.noncurrent_days;
        note(when.noncurrent_days.is_none(), "NoncurrentVersionExpiration");
    }
    note(
        !found.noncurrent_version_transition.is_empty(),
        "NoncurrentVersionTransition",
    );
    note(found.filter.is_some(), "Filter");
    rule.foreign = foreign;
    rule
}

fn element(text: &mut String, name: &str, value: impl AsRef<str>) {
    text.push_str(&format!("<{name}>{}</{name}>", escape(value.as_ref())));
}

fn lifecycle_body(rules: &[LifecycleRule]) -> String {
    let mut text = String::from("<LifecycleConfiguration>");
    for rule in rules {
        text.push_str("<Rule>");
        if let Some(id) = &rule.id {
            element(&mut text, "ID", id);
        }
        element(&mut text, "Prefix", &rule.prefix);
        element(
            &mut text,
            "Status",
            if rule.enabled { "Enabled" } else { "Disabled" },
        );
        for (key, value) in &rule.tags {
            text.push_str("<Tag>");
            element(&mut text, "Key", key);
            element(&mut text, "Value", value);
            text.push_str("</Tag>");
        }
        if let Some(days) = rule.expire_after_days {
            text.push_str(&format!("<Expiration><Days>{days}</Days></Expiration>"));
        }
        if let Some(day) = rule.expire_before {
            text.push_str(&format!(
                "<Expiration><CreatedBeforeDate>{day}T00:00:00.000Z</CreatedBeforeDate></Expiration>"
            ));
        }
        for Transition { to, after_days } in &rule.transitions {
            text.push_str(&format!(
                "<Transition><Days>{after_days}</Days><StorageClass>{to}</StorageClass></Transition>"
            ));
        }
        if let Some(days) = rule.abort_unfinished_uploads_after_days {
            text.push_str(&format!(
                "<AbortMultipartUpload><Days>{days}</Days></AbortMultipartUpload>"
            ));
        }
        if let Some(days) = rule.expire_old_versions_after_days {
            text.push_str(&format!(
                "<NoncurrentVersionExpiration><NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>"
            ));
        }
        text.push_str("</Rule>");
    }
    text.push_str("</LifecycleConfiguration>");
    text
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CorsBody {
    #[serde(rename = "CORSRule")]
    rules: Vec<CorsRuleBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CorsRuleBody {
    allowed_origin: Vec<String>,
    allowed_method: Vec<String>,
    allowed_header: Vec<String>,
    expose_header: Vec<String>,
    max_age_seconds: Option<u32>,
}

fn cors(body: &[u8]) -> Result<Vec<CorsRule>, String> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let found: CorsBody = xml::parse(body, "CORSConfiguration")?;
    let rule = |rule: CorsRuleBody| CorsRule {
        origins: rule.allowed_origin,
        methods: rule.allowed_method,
        allowed_headers: rule.allowed_header,
        expose_headers: rule.expose_header,
        max_age: rule.max_age_seconds,
    };
    Ok(found.rules.into_iter().map(rule).collect())
}

fn cors_body(rules: &[CorsRule]) -> String {
    let mut text = String::from("<CORSConfiguration>");
    for rule in rules {
        text.push_str("<CORSRule>");
        for (name, values) in [
            ("AllowedOrigin", &rule.origins),
            ("AllowedMethod", &rule.methods),
            ("AllowedHeader", &rule.allowed_headers),
            ("ExposeHeader", &rule.expose_headers),
        ] {
            for value in values {
                element(&mut text, name, value);
            }
        }
        if let Some(seconds) = rule.max_age {
            element(&mut text, "MaxAgeSeconds", seconds.to_string());
        }
        text.push_str("</CORSRule>");
    }
    // A cache between browser and bucket must not give the answer for one origin to another.
    text.push_str("<ResponseVary>true</ResponseVary></CORSConfiguration>");
    text
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct VersioningBody {
    status: Option<String>,
}

fn versioning(body: &[u8]) -> Result<Option<Versioning>, String> {
    // A bucket that never had versions answers with an empty element.
    if body.is_empty() || body.trim_ascii_end().ends_with(b"/>") {
        return Ok(None);
    }
    let found: VersioningBody = xml::parse(body, "VersioningConfiguration")?;
    match found.status.as_deref() {
        None | Some("") => Ok(None),
        Some("Enabled") => Ok(Some(Versioning::Enabled)),
        Some("Suspended") => Ok(Some(Versioning::Suspended)),
        Some(other) => Err(format!("the answer has the unknown versioning status {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_read_back() {
        let rules = StorageRules::from_json(
            r#"{"lifecycle": [{"id": "t", "prefix": "temp/<&>", "expire_after_days": 1},
                {"prefix": "文献/", "tags": {"k": "a&b"}, "expire_before": "2025-01-31", "enabled": false},
                {"prefix": "pdfs/", "transitions": [{"to": "IA", "after_days": 90}, {"to": "ColdArchive", "after_days": 400}],
                 "abort_unfinished_uploads_after_days": 3, "expire_old_versions_after_days": 30}],
                "cors": [{"origins": ["https://a", "https://*.b"], "methods": ["GET", "PUT"], "allowed_headers": ["*"],
                "expose_headers": ["ETag"], "max_age": 600}, {"origins": ["*"], "methods": ["GET"]}]}"#,
        )
        .unwrap();
        let sent = lifecycle_body(rules.lifecycle.as_ref().unwrap());
        assert_eq!(Some(lifecycle(sent.as_bytes()).unwrap()), rules.lifecycle);
        let sent = cors_body(rules.cors.as_ref().unwrap());
        assert_eq!(Some(cors(sent.as_bytes()).unwrap()), rules.cors);
        assert_eq!(lifecycle(b"").unwrap(), []);
    }

    #[test]
    fn what_the_file_can_not_express_is_named() {
        let body = br#"<?xml version="1.0" encoding="UTF-8"?>
            <LifecycleConfiguration><Rule><ID>1</ID><Prefix>a</Prefix><Status>Enabled</Status>
            <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>
            <Transition><Days>30</Days><StorageClass>IA</StorageClass><IsAccessTime>true</IsAccessTime>
            <ReturnToStdWhenVisit>true</ReturnToStdWhenVisit></Transition>
            <Filter><Not><Prefix>a/b</Prefix></Not></Filter>
            <NoncurrentVersionTransition><NoncurrentDays>5</NoncurrentDays><StorageClass>IA</StorageClass>
            </NoncurrentVersionTransition></Rule></LifecycleConfiguration>"#;
        let found = lifecycle(body).unwrap();
        assert_eq!(
            found[0].foreign,
            [
                "Expiration.ExpiredObjectDeleteMarker",
                "Transition.IsAccessTime",
                "NoncurrentVersionTransition",
                "Filter"
            ]
        );
        assert!(found[0].transitions.is_empty() && found[0].enabled);
    }

    #[test]
    fn a_bucket_may_never_have_had_versions() {
        let root = |inner: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<VersioningConfiguration xmlns=\"x\">{inner}</VersioningConfiguration>"
            )
        };
        assert_eq!(versioning(root("").as_bytes()).unwrap(), None);
        assert_eq!(versioning(b"<VersioningConfiguration/>").unwrap(), None);
        let suspended = versioning(root("<Status>Suspended</Status>").as_bytes()).unwrap();
        assert_eq!(suspended, Some(Versioning::Suspended));
        assert!(versioning(root("<Status>On</Status>").as_bytes()).is_err());
    }
}
