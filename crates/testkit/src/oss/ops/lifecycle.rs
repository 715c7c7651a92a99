//! Lifecycle rules: refused as OSS documents it, kept, and not acted on.

use std::collections::BTreeSet;

use crate::oss::error::OssError;
use crate::oss::xml::Element;

const MOST_RULES: usize = 1000;
const LONGEST_ID: usize = 255;
const ACTIONS: [&str; 5] = [
    "Expiration",
    "AbortMultipartUpload",
    "Transition",
    "NoncurrentVersionExpiration",
    "NoncurrentVersionTransition",
];
/// From the most often to the least often used.
const STORAGE_CLASSES: [&str; 4] = ["IA", "Archive", "ColdArchive", "DeepColdArchive"];

/// Checks the document and gives every rule without a name a name, as OSS does.
pub(super) fn accept(mut root: Element, may_overlap: bool) -> Result<Element, OssError> {
    root.must_be("LifecycleConfiguration", &["Rule"])?;
    if root.children.is_empty() || root.children.len() > MOST_RULES {
        return Err(OssError::malformed_xml(format!(
            "1 to {MOST_RULES} rules are expected"
        )));
    }
    let rules: Vec<Rule<'_>> = root.children.iter().map(Rule::parse).collect::<Result<_, _>>()?;
    let names: Vec<&str> = rules.iter().filter_map(|rule| rule.id).collect();
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        return Err(OssError::new(400, "InvalidRequest", "Rule ID must be unique."));
    }
    for (at, rule) in rules.iter().enumerate() {
        for other in &rules[..at] {
            rule.beside(other, may_overlap)?;
        }
    }
    for rule in &mut root.children {
        if rule.child_text("ID").is_none_or(str::is_empty) {
            rule.children.retain(|child| child.name != "ID");
            let id = format!("{:032x}", fastrand::u128(..));
            rule.children.insert(0, Element::with_text("ID", id));
        }
    }
    Ok(root)
}

fn invalid(message: impl Into<String>, ec: &'static str) -> OssError {
    OssError::new(400, "InvalidRequest", message).ec(ec)
}

struct Rule<'a> {
    id: Option<&'a str>,
    prefix: &'a str,
    tags: BTreeSet<(&'a str, &'a str)>,
    actions: Vec<Action<'a>>,
}

struct Action<'a> {
    name: &'a str,
    /// Of a transition.
    class: Option<usize>,
    when: When,
}

#[derive(Clone, Copy, PartialEq)]
enum When {
    Days(u64),
    Date,
    /// `ExpiredObjectDeleteMarker`.
    Marker,
}

impl<'a> Rule<'a> {
    fn parse(element: &'a Element) -> Result<Self, OssError> {
        let mut known = vec!["ID", "Prefix", "Status", "Tag", "Filter", "AtimeBase"];
        known.extend(ACTIONS);
        element.must_be("Rule", &known)?;
        for name in ["ID", "Prefix", "Status", "Expiration", "AbortMultipartUpload"] {
            if element.children_named(name).count() > 1 {
                return Err(
                    OssError::malformed_xml(format!("a Rule has one {name} at most")).ec("0014-00000010")
                );
            }
        }
        if !matches!(
            element.child_text("Status").map(str::trim),
            Some("Enabled" | "Disabled")
        ) {
            return Err(OssError::malformed_xml("Status must be Enabled or Disabled"));
        }
        let id = element.child_text("ID").filter(|id| !id.is_empty());
        if id.is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(OssError::invalid_argument(
                format!("The ID of a rule has {LONGEST_ID} bytes at most."),
                "ID",
                id.unwrap_or_default(),
            ));
        }
        let tags = element
            .children_named("Tag")
            .map(|tag| Some((tag.child_text("Key")?, tag.child_text("Value")?)))
            .collect::<Option<_>>()
            .ok_or_else(|| OssError::malformed_xml("a Tag needs a Key and a Value"))?;
        let actions: Vec<Action<'_>> = element
            .children
            .iter()
            .filter(|child| ACTIONS.contains(&child.name.as_str()))
            .map(Action::parse)
            .collect::<Result<_, _>>()?;
        if actions.is_empty() {
            return Err(OssError::malformed_xml("a Rule needs an action"));
        }
        let rule = Self {
            id,
            prefix: element.child_text("Prefix").unwrap_or_default(),
            tags,
            actions,
        };
        if !rule.tags.is_empty()
            && rule
                .actions
                .iter()
                .any(|action| action.name == "AbortMultipartUpload")
        {
            let message = "AbortMultipartUpload cannot be specified with Tag.";
            return Err(OssError::new(400, "InvalidRequest", message));
        }
        in_order(&rule.actions.iter().collect::<Vec<_>>())?;
        Ok(rule)
    }

    /// Whether both may stand in one configuration.
    fn beside(&self, other: &Self, may_overlap: bool) -> Result<(), OssError> {
        let overlap = self.prefix.starts_with(other.prefix) || other.prefix.starts_with(self.prefix);
        if !overlap || self.tags != other.tags {
            return Ok(());
        }
        if self.prefix == other.prefix && !may_overlap {
            return Err(invalid("Found same prefix in different rules", "0014-00000085"));
        }
        for action in &self.actions {
            for another in other.actions.iter().filter(|another| another.name == action.name) {
                // Parts have one owner whatever the header says.
                let parts = action.name == "AbortMultipartUpload";
                if action.class != another.class || (may_overlap && !parts) {
                    continue;
                }
                let ec = if action.class.is_some() {
                    "0014-00000079"
                } else {
                    "0014-00000084"
                };
                let message = format!(
                    "Found overlapping prefixes '{}' and '{}' for same action type '{}'",
                    other.prefix, self.prefix, action.name
                );
                return Err(invalid(message, ec));
            }
        }
        if may_overlap {
            return Ok(());
        }
        let objects = |rule: &'_ Rule<'a>| -> Vec<When> {
            let dated = rule
                .actions
                .iter()
                .filter(|action| action.name == "Expiration" || action.name == "Transition");
            dated.map(|action| action.when).collect()
        };
        let mixed = |one: &[When], two: &[When]| {
            one.iter().any(|when| matches!(when, When::Days(_))) && two.contains(&When::Date)
        };
        let (mine, theirs) = (objects(self), objects(other));
        if mixed(&mine, &theirs) || mixed(&theirs, &mine) {
            let message = "Days and CreatedBeforeDate cannot be used by rules with overlapping prefixes.";
            return Err(invalid(message, "0014-00000080"));
        }
        in_order(&self.actions.iter().chain(&other.actions).collect::<Vec<_>>())
    }
}

/// Colder classes later than warmer ones, and the end after all of them.
fn in_order(actions: &[&Action<'_>]) -> Result<(), OssError> {
    let mut steps: Vec<(usize, u64)> = actions
        .iter()
        .filter_map(|action| {
            let rank = match action.name {
                "Transition" => action.class?,
                "Expiration" => usize::MAX,
                _ => return None,
            };
            match action.when {
                When::Days(days) => Some((rank, days)),
                _ => None,
            }
        })
        .collect();
    steps.sort_unstable();
    if steps
        .windows(2)
        .any(|pair| pair[0].0 != pair[1].0 && pair[0].1 >= pair[1].1)
    {
        let message = "Objects must become colder with time, and expire after that.";
        return Err(invalid(message, "0014-00000082"));
    }
    Ok(())
}

impl<'a> Action<'a> {
    fn parse(element: &'a Element) -> Result<Self, OssError> {
        let name = element.name.as_str();
        let noncurrent = name.starts_with("Noncurrent");
        let transition = name.ends_with("Transition");
        let days = if noncurrent { "NoncurrentDays" } else { "Days" };
        let mut known = vec![days];
        if !noncurrent {
            known.push("CreatedBeforeDate");
        }
        if name == "Expiration" {
            known.push("ExpiredObjectDeleteMarker");
        }
        if transition {
            known.extend([
                "StorageClass",
                "IsAccessTime",
                "ReturnToStdWhenVisit",
                "AllowSmallFile",
            ]);
        }
        element
            .must_be(name, &known)
            .map_err(|error| error.ec("0014-00000071"))?;
        let times: Vec<&Element> = element
            .children
            .iter()
            .filter(|child| {
                [days, "CreatedBeforeDate", "ExpiredObjectDeleteMarker"].contains(&child.name.as_str())
            })
            .collect();
        let [time] = times[..] else {
            return Err(
                OssError::malformed_xml(format!("{name} needs one of {days} and CreatedBeforeDate"))
                    .ec("0014-00000061"),
            );
        };
        let text = time.text.trim();
        let refused = |why: &str| OssError::invalid_argument(why, &time.name, text);
        let when = match time.name.as_str() {
            "CreatedBeforeDate" => match text.parse::<jiff::Timestamp>() {
                Ok(at) if at.as_second() % 86_400 == 0 => When::Date,
                _ => {
                    return Err(refused(
                        "The date must be midnight in UTC, in the form of ISO 8601.",
                    ));
                }
            },
            "ExpiredObjectDeleteMarker" if ["true", "false"].contains(&text) => When::Marker,
            "ExpiredObjectDeleteMarker" => return Err(refused("It must be true or false.")),
            _ => match text.parse::<u64>() {
                Ok(days) if (1..=i32::MAX as u64).contains(&days) => When::Days(days),
                _ => return Err(refused("The days must be a positive integer.")),
            },
        };
        let class =
            if transition {
                let class = element
                    .child_text("StorageClass")
                    .map(str::trim)
                    .unwrap_or_default();
                let known = STORAGE_CLASSES.iter().position(|known| *known == class);
                Some(known.ok_or_else(|| {
                    OssError::malformed_xml("a transition needs a StorageClass that OSS knows")
                })?)
            } else {
                None
            };
        let by_access = element.child_text("IsAccessTime").map(str::trim) == Some("true");
        if by_access != element.child_text("ReturnToStdWhenVisit").is_some() {
            let why = "IsAccessTime and ReturnToStdWhenVisit belong together";
            return Err(OssError::malformed_xml(why).ec("0014-00000052"));
        }
        Ok(Self { name, class, when })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oss::xml::parse;

    fn judge(rules: &str, may_overlap: bool) -> Result<Element, String> {
        let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        let root = parse(&text).expect("well-formed");
        accept(root, may_overlap).map_err(|error| format!("{} {}", error.code, error.ec.unwrap_or_default()))
    }

    fn rule(prefix: &str, action: &str) -> String {
        format!("<Rule><Prefix>{prefix}</Prefix><Status>Enabled</Status>{action}</Rule>")
    }

    const EXPIRE: &str = "<Expiration><Days>200</Days></Expiration>";
    const ABORT: &str = "<AbortMultipartUpload><Days>1</Days></AbortMultipartUpload>";

    fn to(class: &str, days: u32) -> String {
        format!("<Transition><Days>{days}</Days><StorageClass>{class}</StorageClass></Transition>")
    }

    #[test]
    fn good_rules_are_taken_and_named() {
        let all = [
            rule("temp/", EXPIRE),
            rule("asl/pdfs/", &to("IA", 90)),
            rule("", ABORT),
            rule("temp/deep", &to("Archive", 30)),
        ];
        let root = judge(&all.concat(), false).expect("accepted");
        let ids: BTreeSet<&str> = root
            .children
            .iter()
            .filter_map(|rule| rule.child_text("ID"))
            .collect();
        assert_eq!(ids.len(), 4);
        assert!(judge(&(rule("a", EXPIRE) + &rule("a/b", EXPIRE)), true).is_ok());
    }

    #[test]
    fn overlaps_are_refused_as_documented() {
        for (one, two, refusal) in [
            (
                rule("test", EXPIRE),
                rule("test/log", EXPIRE),
                "InvalidRequest 0014-00000084",
            ),
            (rule("", ABORT), rule("a/", ABORT), "InvalidRequest 0014-00000084"),
            (
                rule("a", &to("IA", 30)),
                rule("a/b", &to("IA", 60)),
                "InvalidRequest 0014-00000079",
            ),
            (
                rule("a", EXPIRE),
                rule("a", &to("IA", 100)),
                "InvalidRequest 0014-00000085",
            ),
            (
                rule("a", &to("IA", 120)),
                rule("a/b", &to("Archive", 60)),
                "InvalidRequest 0014-00000082",
            ),
            (
                rule("a", &to("IA", 300)),
                rule("a/b", EXPIRE),
                "InvalidRequest 0014-00000082",
            ),
            (
                rule(
                    "a",
                    "<Expiration><CreatedBeforeDate>2021-12-30T00:00:00.000Z</CreatedBeforeDate></Expiration>",
                ),
                rule("a/b", &to("IA", 30)),
                "InvalidRequest 0014-00000080",
            ),
        ] {
            assert_eq!(judge(&(one.clone() + &two), false).expect_err(refusal), refusal);
            assert_eq!(judge(&(two + &one), false).expect_err(refusal), refusal);
        }
        // The header that allows overlaps does not do so for parts.
        let parts = rule("", ABORT) + &rule("a/", ABORT);
        assert_eq!(
            judge(&parts, true).expect_err("refused"),
            "InvalidRequest 0014-00000084"
        );
    }

    #[test]
    fn malformed_rules_are_refused() {
        for rules in [
            String::new(),
            "<Other/>".to_owned(),
            "<Rule><Prefix>a</Prefix></Rule>".to_owned(),
            "<Rule><Prefix>a</Prefix><Status>On</Status></Rule>".to_owned(),
            rule("a", ""),
            rule("a</Prefix><Prefix>b", EXPIRE),
            rule("a", "<Expiration/>"),
            rule(
                "a",
                "<Expiration><Days>1</Days><CreatedBeforeDate>2021-12-30T00:00:00Z</CreatedBeforeDate></Expiration>",
            ),
            rule("a", "<Transition><Days>1</Days></Transition>"),
            rule("a", &to("Warm", 1)),
            rule(
                "a",
                "<AbortMultipartUpload><IsAccessTime>true</IsAccessTime><Days>1</Days></AbortMultipartUpload>",
            ),
        ] {
            let refusal = judge(&rules, false).expect_err(&rules);
            assert!(refusal.starts_with("MalformedXML"), "{rules}: {refusal}");
        }
        for (action, refusal) in [
            ("<Expiration><Days>0</Days></Expiration>", "InvalidArgument "),
            ("<Expiration><Days>soon</Days></Expiration>", "InvalidArgument "),
            (
                "<Expiration><CreatedBeforeDate>2021-12-30T01:00:00Z</CreatedBeforeDate></Expiration>",
                "InvalidArgument ",
            ),
        ] {
            assert_eq!(judge(&rule("a", action), false).expect_err(action), refusal);
        }
    }
}
