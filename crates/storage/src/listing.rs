//! Building a page of a listing from keys in byte order.

use crate::{Entry, ListOptions, ListPage, object::after_folder};

/// Collects entries and folders until the page is full.
pub(crate) struct PageBuilder<'a> {
    prefix: &'a str,
    options: &'a ListOptions,
    page: ListPage,
    count: usize,
    last: String,
}

impl<'a> PageBuilder<'a> {
    pub(crate) fn new(prefix: &'a str, options: &'a ListOptions) -> Self {
        Self {
            prefix,
            options,
            page: ListPage::default(),
            count: 0,
            last: String::new(),
        }
    }

    /// Offers the next key in byte order. `false` means the page is full and there are more keys.
    pub(crate) fn offer(&mut self, key: &str, entry: impl FnOnce() -> Entry) -> bool {
        if self.options.after.as_deref().is_some_and(|after| key <= after) {
            return true;
        }
        let folder = self.options.delimiter.and_then(|delimiter| {
            let rest = key.strip_prefix(self.prefix)?;
            let end = rest.find(delimiter)?;
            Some(&key[..self.prefix.len() + end + delimiter.len_utf8()])
        });
        if let Some(folder) = folder
            && self.page.folders.last().is_some_and(|last| last == folder)
        {
            return true;
        }
        if self.count == self.options.limit {
            self.page.next = Some(std::mem::take(&mut self.last));
            return false;
        }
        self.count += 1;
        match folder {
            Some(folder) => {
                self.last = after_folder(folder);
                self.page.folders.push(folder.to_owned());
            }
            None => {
                key.clone_into(&mut self.last);
                self.page.entries.push(entry());
            }
        }
        true
    }

    pub(crate) fn finish(self) -> ListPage {
        self.page
    }
}
