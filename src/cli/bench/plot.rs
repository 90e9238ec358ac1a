//! Draws line charts as one self-contained SVG that is readable on light and dark backgrounds.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::io::durable;

const WIDTH: f64 = 820.0;
const HEAD: f64 = 60.0;
const HEIGHT: f64 = 260.0;
/// Position of the axes within a panel: left, top, right, bottom.
const AXES: [f64; 4] = [70.0, 34.0, WIDTH - 180.0, HEIGHT - 46.0];
const COLOURS: [&str; 4] = ["#d9480f", "#1c7ed6", "#2f9e44", "#9c36b5"];
const STYLE: &str = "text{font:12px sans-serif;fill:#222}.t{font-size:15px}.g{stroke:#ddd}.b{fill:#fff}\
    polyline{fill:none;stroke-width:1.6}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#444}.b{fill:#181818}}";

/// Which axis is logarithmic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    LogX,
    LogY,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) scale: Scale,
    pub(super) lines: Vec<Line>,
}

/// Panels one below the other, with lines of text above them.
pub(super) fn svg(head: &[&str], panels: &[Panel]) -> String {
    let height = HEAD + HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"b\" width=\"100%\" height=\"100%\"/>\n"
    );
    for (n, line) in head.iter().enumerate() {
        let class = if n == 0 { "t" } else { "s" };
        text(&mut out, &format!("class=\"{class}\" x=\"16\" y=\"{}\"", 24 + 20 * n), line);
    }
    for (n, panel) in panels.iter().enumerate() {
        _ = writeln!(out, "<g transform=\"translate(0,{})\">", HEAD + HEIGHT * n as f64);
        panel.draw(&mut out);
        out += "</g>\n";
    }
    out + "</svg>\n"
}

impl Panel {
    fn draw(&self, out: &mut String) {
        let [left, top, right, bottom] = AXES;
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::new(all().map(|p| p.0), self.scale == Scale::LogX, left, right);
        let y = Axis::new(all().map(|p| p.1), self.scale == Scale::LogY, bottom, top);
        text(out, &format!("x=\"{left}\" y=\"20\""), self.title);
        for (at, mark) in &x.marks {
            _ = writeln!(out, "<path class=\"g\" d=\"M{at:.1} {top}V{bottom}\"/>");
            text(out, &format!("x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\"", bottom + 16.0), mark);
        }
        for (at, mark) in &y.marks {
            _ = writeln!(out, "<path class=\"g\" d=\"M{left} {at:.1}H{right}\"/>");
            text(out, &format!("x=\"{}\" y=\"{:.1}\" text-anchor=\"end\"", left - 6.0, at + 4.0), mark);
        }
        let middle = f64::midpoint(left, right);
        text(out, &format!("x=\"{middle}\" y=\"{}\" text-anchor=\"middle\"", bottom + 34.0), self.x);
        let turned = format!("translate(16,{}) rotate(-90)", f64::midpoint(top, bottom));
        text(out, &format!("transform=\"{turned}\" text-anchor=\"middle\""), self.y);
        for (n, line) in self.lines.iter().filter(|line| !line.points.is_empty()).enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let place = |p: &(f64, f64)| format!("{:.1},{:.1}", x.place(p.0), y.place(p.1));
            let points: Vec<String> = line.points.iter().map(place).collect();
            _ = writeln!(out, "<polyline stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
            let at = top + 12.0 + 20.0 * n as f64;
            let beside = right + 14.0;
            _ = writeln!(
                out,
                "<path d=\"M{beside} {}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>",
                at - 4.0
            );
            text(out, &format!("x=\"{}\" y=\"{at}\"", beside + 22.0), line.name);
        }
    }
}

/// Maps values to positions on the page.
struct Axis {
    log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    marks: Vec<(f64, String)>,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Axis {
        // A logarithmic axis in ms begins at a nanosecond.
        let scaled = values.map(|v| if log { v.max(1e-6).log10() } else { v }).filter(|v| v.is_finite());
        let (low, high) = scaled.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (low, high, step) = if log {
            (low.floor(), high.ceil().max(low.floor() + 1.0), 1.0)
        } else {
            let high = high.max(low.min(0.0) + 1e-3);
            let power = 10_f64.powf((high - low.min(0.0)).log10().floor());
            let steps = [0.2, 0.5, 1.0, 2.0].map(|f| f * power);
            let step = steps.into_iter().find(|s| (high - low.min(0.0)) / s <= 6.0).unwrap_or(2.0 * power);
            (low.min(0.0), (high / step).ceil() * step, step)
        };
        let mut axis = Axis { log, low, high, from, to, marks: Vec::new() };
        let count = ((high - low) / step).round() as u32;
        let mark = |n: u32| {
            let value = low + step * f64::from(n);
            let said = if log { 10_f64.powf(value) } else { value };
            // Ten digits hide the error of binary fractions.
            (axis.at(value), format!("{}", (said * 1e7).round() / 1e7))
        };
        axis.marks = (0..=count).map(mark).collect();
        axis
    }

    fn place(&self, value: f64) -> f64 {
        self.at(if self.log { value.max(1e-6).log10() } else { value })
    }

    fn at(&self, scaled: f64) -> f64 {
        self.from + (scaled - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

fn text(out: &mut String, attributes: &str, content: &str) {
    let escaped: String = content
        .chars()
        // XML allows no control characters.
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    _ = writeln!(out, "<text {attributes}>{escaped}</text>");
}

/// Fails early if a file cannot be written at `path`.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !path.is_dir() && path.file_name().is_some(),
        "--plot {path:?}: this is a directory or nothing: name a file, as in out.svg"
    );
    let parent = parent(path);
    anyhow::ensure!(
        parent.is_dir(),
        "--plot {}: there is no directory {}: make it, or name another place",
        path.display(),
        parent.display()
    );
    durable::Pending::create(durable::temporary_beside(path), 0o666)
        .map(drop)
        .with_context(|| format!("--plot {}: nothing can be written to {}", path.display(), parent.display()))
}

/// Writes the whole file atomically.
pub(super) fn write(path: &Path, svg: &str) -> anyhow::Result<()> {
    durable::write(path, svg.as_bytes(), 0o666)
        .with_context(|| format!("--plot {}: the file cannot be written", path.display()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(scale: Scale, points: Vec<(f64, f64)>) -> Panel {
        Panel { title: "a & b", x: "ms", y: "%", scale, lines: vec![Line { name: "one", points }] }
    }

    /// Parses it as XML: all elements are closed in order. Returns the numbers of the `points`
    /// attributes.
    fn points(svg: &str) -> Vec<(f64, f64)> {
        let mut reader = quick_xml::Reader::from_str(svg);
        reader.config_mut().check_end_names = true;
        let (mut depth, mut found) = (0, Vec::new());
        loop {
            use quick_xml::events::Event;
            let mut note = |e: &quick_xml::events::BytesStart<'_>| {
                for attribute in e.attributes() {
                    let attribute = attribute.expect("an attribute");
                    if attribute.key.as_ref() == "points" {
                        let text = attribute.value.to_string();
                        found.extend(text.split(' ').filter_map(|p| {
                            let (x, y) = p.split_once(',')?;
                            Some((x.parse::<f64>().expect("x"), y.parse::<f64>().expect("y")))
                        }));
                    }
                }
            };
            match reader.read_event().expect("XML") {
                Event::Start(e) => {
                    note(&e);
                    depth += 1;
                }
                Event::Empty(e) => note(&e),
                Event::End(_) => depth -= 1,
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        found
    }

    #[test]
    fn the_plot_is_xml_and_all_points_are_within_the_axes() {
        let line = vec![(0.01, 3.0), (5.0, 50.0), (900.0, 100.0), (0.0, 0.0)];
        let panels = [Scale::Linear, Scale::LogX, Scale::LogY].map(|scale| panel(scale, line.clone()));
        let svg = svg(&["to <s3>\u{1b}", "more"], &panels);
        let found = points(&svg);
        assert_eq!(found.len(), 12);
        let [left, top, right, bottom] = AXES;
        for (x, y) in found {
            assert!((left..=right).contains(&x) && (top..=bottom).contains(&y), "{x}, {y}");
        }
        assert!(svg.contains("to &lt;s3&gt; </text>") && svg.contains("prefers-color-scheme:dark"), "{svg}");
    }

    #[test]
    fn marks_are_round_numbers() {
        let marks = |values: &[f64], log| {
            Axis::new(values.iter().copied(), log, 0.0, 1.0)
                .marks
                .into_iter()
                .map(|m| m.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(marks(&[0.3, 42.0], true), ["0.1", "1", "10", "100"]);
        assert_eq!(marks(&[0.7, 4.1], false), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(marks(&[0.0, 0.45], false), ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(marks(&[7.0], true), ["1", "10"]);
        // No values, and only zeros, also produce axes.
        assert!(marks(&[], false).len() > 1 && marks(&[0.0], false).len() > 1);
    }

    #[test]
    fn empty_lines_are_left_out() {
        let svg = svg(&["x"], &[panel(Scale::LogX, Vec::new())]);
        assert!(points(&svg).is_empty() && !svg.contains(">one<"), "{svg}");
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_refused_before() {
        let dir = std::env::temp_dir().join(format!("lsfast-bench-plot-{:08x}", fastrand::u32(..)));
        std::fs::create_dir(&dir).expect("a folder");
        let said = |path: &Path| check(path).expect_err("a refusal").to_string();
        assert!(said(&dir).contains("this is a directory") && said(Path::new("")).contains("name a file"));
        assert!(said(&dir.join("missing/out.svg")).contains("there is no directory"));
        let good = dir.join("out.svg");
        check(&good).expect("a file can be made");
        assert!(!good.exists(), "the check writes nothing");
        write(&good, "<svg/>").expect("a file");
        assert_eq!(std::fs::read_dir(&dir).expect("the folder").count(), 1);
        assert_eq!(std::fs::read_to_string(&good).expect("the file"), "<svg/>");
        std::fs::remove_dir_all(&dir).expect("the folder");
    }
}
