//! Draws ratios as horizontal bars, in groups with a scale of their own: an SVG for light and dark pages.

use std::fmt::Write;

/// Bars that are compared with each other.
pub(super) struct Group {
    title: String,
    hint: &'static str,
    bars: Vec<Bar>,
}

struct Bar {
    label: String,
    ratio: f64,
    is_ours: bool,
}

impl Group {
    /// The hint says what 1 means, and which direction is better.
    pub(super) fn new(title: impl Into<String>, hint: &'static str) -> Group {
        Group { title: title.into(), hint, bars: Vec::new() }
    }

    /// Adds a bar, if there is a ratio.
    pub(super) fn bar(&mut self, label: impl Into<String>, ratio: Option<f64>, is_ours: bool) {
        if let Some(ratio) = ratio.filter(|ratio| ratio.is_finite() && *ratio >= 0.0) {
            self.bars.push(Bar { label: label.into(), ratio, is_ours });
        }
    }

    fn height(&self) -> f64 {
        HEAD + ROW * self.bars.len() as f64 + GAP
    }
}

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where bars begin.
const BARS: f64 = 330.0;
/// The length of the longest bar, which leaves room for the figure after it.
const LONGEST: f64 = WIDTH - BARS - MARGIN - 70.0;
const HEAD: f64 = 34.0;
const ROW: f64 = 24.0;
const THICK: f64 = 16.0;
const GAP: f64 = 20.0;

const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f }
  .title { font-size: 18px; font-weight: 600 }
  .group { font-size: 14px; font-weight: 600 }
  .muted { fill: #57606a; font-size: 12px }
  .label { text-anchor: end }
  .figure { stroke: #ffffff; stroke-width: 4px; paint-order: stroke }
  .page { fill: #ffffff }
  .ours { fill: #bc4c00 }
  .theirs { fill: #8c959f }
  .one { stroke: #24292f; stroke-dasharray: 2 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .muted { fill: #9198a1 }
    .figure { stroke: #0d1117 }
    .page { fill: #0d1117 }
    .ours { fill: #f0883e }
    .theirs { fill: #6e7681 }
    .one { stroke: #e6edf3 }
  }
";

/// The chart as SVG. Groups without bars are left out.
pub(super) fn svg(title: &str, below: &str, groups: &[Group]) -> String {
    let groups: Vec<&Group> = groups.iter().filter(|group| !group.bars.is_empty()).collect();
    let height = 92.0 + groups.iter().map(|group| group.height()).sum::<f64>();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n",
        title = escaped(title),
    );
    text(&mut out, "title", MARGIN, 36.0, title);
    text(&mut out, "muted", MARGIN, 58.0, below);
    let mut top = 78.0;
    for group in groups {
        draw(&mut out, group, top);
        top += group.height();
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, group: &Group, top: f64) {
    text(out, "group", MARGIN, top + 16.0, &group.title);
    let hint = format!("<text class=\"muted label\" x=\"{}\" y=\"{}\">", WIDTH - MARGIN, top + 16.0);
    let _ = writeln!(out, "{hint}{}</text>", escaped(group.hint));
    let greatest = group.bars.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
    let long = |ratio: f64| ratio / greatest * LONGEST;
    // The reference line, below bars and figures.
    let (x, from) = (BARS + long(1.0), top + HEAD - 10.0);
    let to = from + ROW * group.bars.len() as f64 + 4.0;
    let _ = writeln!(out, "<line class=\"one\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from}\" y2=\"{to}\"/>");
    for (at, bar) in group.bars.iter().enumerate() {
        let y = top + HEAD - 6.0 + ROW * at as f64;
        let class = if bar.is_ours { "ours" } else { "theirs" };
        let width = long(bar.ratio).max(1.0);
        text(out, "label", BARS - 10.0, y + THICK - 4.0, &bar.label);
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{BARS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{THICK}\" rx=\"2\"/>"
        );
        let digits = if bar.ratio < 10.0 { 2 } else { 1 };
        text(out, "figure", BARS + width + 8.0, y + THICK - 4.0, &format!("{:.digits$} ×", bar.ratio));
    }
}

fn text(out: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ratios: &[f64]) -> Group {
        let mut group = Group::new("drain", "1 is the service; more is better");
        for (at, ratio) in ratios.iter().enumerate() {
            group.bar(format!("<{at}> & co"), Some(*ratio), at == 0);
        }
        group
    }

    /// The lengths of the bars, in their order.
    fn lengths(svg: &str) -> Vec<f64> {
        let bars = svg.split("<rect class=\"").skip(2);
        bars.map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn bars_are_as_long_as_their_ratios_say() {
        let svg = svg("t", "b", &[group(&[4.0, 1.0, 2.0])]);
        assert_eq!(lengths(&svg), [LONGEST, LONGEST / 4.0, LONGEST / 2.0]);
    }

    #[test]
    fn one_stays_within_the_picture_when_all_are_less() {
        let svg = svg("t", "b", &[group(&[0.1])]);
        assert_eq!(lengths(&svg), [(LONGEST / 10.0 * 10.0).round() / 10.0]);
        assert!(svg.contains(&format!("x1=\"{:.1}\"", BARS + LONGEST)));
    }

    #[test]
    fn labels_are_escaped_and_empty_groups_left_out() {
        let svg = svg("a < b", "", &[group(&[1.0]), Group::new("nobody came", "")]);
        assert!(svg.contains("&lt;0&gt; &amp; co") && svg.contains("a &lt; b"));
        assert!(!svg.contains("nobody came"));
    }

    #[test]
    fn what_was_not_measured_has_no_bar() {
        let mut group = Group::new("drain", "");
        group.bar("missing", None, false);
        group.bar("no rows", Some(f64::NAN), false);
        assert!(group.bars.is_empty());
    }
}
