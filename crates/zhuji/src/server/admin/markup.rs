//! HTML that can't be broken out of: text becomes part of a page only escaped.

use std::fmt::{self, Write};

/// A piece of a page. Made by [`markup!`] only, whose text is written in the source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Markup(String);

impl Markup {
    /// For [`markup!`].
    pub(super) fn made(html: String) -> Self {
        Self(html)
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Self {
        let mut all = Self::default();
        pieces.into_iter().for_each(|piece| all.0.push_str(&piece.0));
        all
    }
}

/// HTML with a `{}` for every part that follows: markup as it is, everything else escaped. Fit for text and for
/// attributes in quotes.
macro_rules! markup {
    // `concat!` keeps `{name}` from reaching a variable past the escaping.
    ($html:literal $(, $part:expr)* $(,)?) => {
        $crate::server::admin::markup::Markup::made(
            format!(concat!($html) $(, $crate::server::admin::markup::Shown(&$part))*)
        )
    };
}
pub(super) use markup;

/// A part of a page as [`markup!`] writes it.
pub(super) struct Shown<'a, T: ?Sized>(pub(super) &'a T);

impl<T: Part + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

/// What can stand in a page.
pub(super) trait Part {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Part for Markup {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Nothing, where there is none.
impl<T: Part> Part for Option<T> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |part| part.write(f))
    }
}

impl<T: Part + ?Sized> Part for &T {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).write(f)
    }
}

macro_rules! escaped {
    ($($kind:ty),*) => {$(
        impl Part for $kind {
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(Escape(f), "{self}")
            }
        }
    )*};
}
escaped!(
    str,
    String,
    u32,
    u64,
    usize,
    i16,
    zhuji_jobs::JobId,
    jiff::Timestamp
);

struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                // Not to be seen, and not what they seem: an order of writing that turns what follows around, too.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.write_char('\u{fffd}')?,
                control if control.is_control() && !matches!(control, '\n' | '\t') => {
                    self.0.write_char('\u{fffd}')?;
                }
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_stays_text() {
        let hostile = "\"><script>alert('&')</script>\u{202e}\0\r";
        let made = markup!(
            "<p title=\"{}\">{}{}{}</p>",
            hostile,
            7_u64,
            None::<&str>,
            markup!("<br>")
        );
        assert_eq!(
            made.into_string(),
            "<p title=\"&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\u{fffd}\u{fffd}\u{fffd}\">7<br></p>"
        );
    }
}
