//! One listing out of several.

use std::collections::BTreeMap;

use crate::{ListPage, object::after_folder};

/// One page out of pages of several stores that were asked for the same prefix, position and limit. Where two have the same
/// key, the later page counts.
pub(super) fn merge(pages: impl IntoIterator<Item = ListPage>, limit: usize) -> ListPage {
    let (mut lines, mut bound) = (BTreeMap::new(), None::<String>);
    for page in pages {
        lines.extend(page.folders.into_iter().map(|folder| (folder, None)));
        lines.extend(
            page.entries
                .into_iter()
                .map(|entry| (entry.key.clone(), Some(entry))),
        );
        // Behind the end of a page that goes on, nothing is known of its store.
        bound = [bound, page.next].into_iter().flatten().min();
    }
    let (mut merged, mut last, mut count) = (ListPage::default(), None, 0);
    for (name, entry) in lines {
        if bound.as_ref().is_some_and(|bound| name > *bound) {
            break;
        }
        if count == limit {
            merged.next = last;
            return merged;
        }
        count += 1;
        match entry {
            Some(entry) => {
                merged.entries.push(entry);
                last = Some(name);
            }
            None => {
                last = Some(after_folder(&name));
                merged.folders.push(name);
            }
        }
    }
    merged.next = bound;
    merged
}
