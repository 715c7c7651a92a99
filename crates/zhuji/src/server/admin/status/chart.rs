//! Small charts, drawn as SVG in the page itself.

use super::history::SAMPLES;
use crate::server::admin::markup::{Markup, markup};

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 56.0;
/// Room for half of the line's width.
const EDGE: f64 = 2.0;

/// A card with the newest value in figures and all of them as a line. Where there is none the line is broken.
pub(super) fn card(
    name: &str,
    test_id: &str,
    values: &[Option<f64>],
    shown: impl Fn(f64) -> String,
) -> Markup {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let now = values.last().copied().flatten();
    let now = now.map_or_else(|| "–".to_owned(), &shown);
    let told = format!(
        "{name}: now {now}, at most {} in the last ten minutes",
        shown(most)
    );
    let lines: Markup = lines(values, most).iter().map(|points| line(points)).collect();
    markup!(
        "<section class=\"card chart\"><h3>{}</h3><p class=\"figure\" data-testid=\"{}\">{}</p>\
         <svg viewBox=\"0 0 240 56\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{}</svg>\
         <p class=\"soft\"><span>10 min</span><span class=\"most\">at most {}</span><span>now</span></p></section>",
        name,
        test_id,
        now,
        told,
        lines,
        shown(most)
    )
}

/// The points of each unbroken piece, the newest sample at the right edge.
fn lines(values: &[Option<f64>], most: f64) -> Vec<Vec<(f64, f64)>> {
    let first = SAMPLES.saturating_sub(values.len());
    let mut pieces = vec![Vec::new()];
    for (number, value) in (first..).zip(values) {
        let Some(value) = value else {
            pieces.push(Vec::new());
            continue;
        };
        let x = number as f64 / (SAMPLES - 1) as f64 * WIDTH;
        let share = if most > 0.0 { value / most } else { 0.0 };
        let y = HEIGHT - EDGE - share * (HEIGHT - 2.0 * EDGE);
        if let Some(piece) = pieces.last_mut() {
            piece.push((x, y));
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn line(points: &[(f64, f64)]) -> Markup {
    // A single point has no length to be drawn; a short stroke has.
    let last = points
        .last()
        .map(|(x, y)| ((x - 2.0).max(0.0), *y))
        .filter(|_| points.len() == 1);
    let points: Vec<(f64, f64)> = last.into_iter().chain(points.iter().copied()).collect();
    let text: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (from, to) = (points[0].0, points[points.len() - 1].0);
    let text = text.join(" ");
    markup!(
        "<polygon class=\"area\" points=\"{}\"/><polyline class=\"line\" points=\"{}\"/>",
        format!("{from:.1},{HEIGHT} {text} {to:.1},{HEIGHT}"),
        text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_where_nothing_is_known() {
        let values = [Some(1.0), Some(2.0), None, Some(0.0)];
        let pieces = lines(&values, 2.0);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0][1].1, EDGE, "the highest is at the top");
        assert_eq!(
            pieces[1][0],
            (WIDTH, HEIGHT - EDGE),
            "the newest is at the right edge"
        );
        let card = card("Requests", "chart", &values, |value| format!("{value:.0}/s")).into_string();
        assert!(
            card.contains("now 0/s, at most 2/s") && card.matches("<polyline").count() == 2,
            "{card}"
        );
    }

    #[test]
    fn nothing_at_all_is_drawn_too() {
        let card = card("Requests", "chart", &[], |value| format!("{value:.0}")).into_string();
        assert!(card.contains('–') && !card.contains("NaN"), "{card}");
    }
}
