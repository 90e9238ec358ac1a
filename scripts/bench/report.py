"""Tables, medians, JSON and plots."""
import json
import math
import os
import pathlib
import platform
import statistics

COLOURS = ["#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#7f7f7f", "#8c564b"]


def percentile(values, part):
    """Nearest rank, of any order; NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(len(ordered) * part) - 1))]


def median(values):
    values = [v for v in values if v is not None and not math.isnan(v)]
    return statistics.median(values) if values else math.nan


def number(value, form="%.2f"):
    return "-" if value is None or math.isnan(value) else form % value


def table(heads, rows):
    """Prints a table in Markdown, columns aligned."""
    cells = [[str(c) for c in row] for row in [heads, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for at, row in enumerate(cells):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |")
        if at == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    print(flush=True)


def machine():
    """The shape of this machine."""
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    memory = next(int(l.split()[1]) for l in open("/proc/meminfo") if l.startswith("MemTotal"))
    shape = {"cpu": model, "cores": os.cpu_count(), "memory_mb": memory // 1024, "kernel": platform.release()}
    return shape | {"load_before": os.getloadavg()[0]}


def save(options, name, results):
    """Writes the results as JSON; returns the path."""
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {path}", flush=True)
    return path


class Plot:
    """Lines in one pair of axes, as SVG."""

    WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 820, 340, 80, 36, 250, 48

    def __init__(self, title, x, y, log_x=False, log_y=False):
        self.title, self.x, self.y, self.log_x, self.log_y, self.lines = title, x, y, log_x, log_y, []

    def line(self, name, points):
        points = [(a, b) for a, b in points if (a > 0 or not self.log_x) and (b > 0 or not self.log_y)]
        if points:
            self.lines.append((name, points))

    def svg(self, top=0):
        every = [p for _, points in self.lines for p in points]
        if not every:
            return ""
        to_x, marks_x = _scale([p[0] for p in every], self.log_x, self.LEFT, self.WIDTH - self.RIGHT)
        to_y, marks_y = _scale([p[1] for p in every], self.log_y, self.HEIGHT - self.BOTTOM, self.TOP)
        out = [f'<g transform="translate(0,{top})"><text x="{self.LEFT}" y="20" font-size="15">{_text(self.title)}</text>']
        for value in marks_x:
            at = to_x(value)
            out.append(f'<path d="M{at:.1f} {self.TOP}V{self.HEIGHT - self.BOTTOM}" stroke="#ddd"/>')
            out.append(f'<text x="{at:.1f}" y="{self.HEIGHT - self.BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
        for value in marks_y:
            at = to_y(value)
            out.append(f'<path d="M{self.LEFT} {at:.1f}H{self.WIDTH - self.RIGHT}" stroke="#ddd"/>')
            out.append(f'<text x="{self.LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
        middle = (self.LEFT + self.WIDTH - self.RIGHT) / 2
        out.append(f'<text x="{middle}" y="{self.HEIGHT - 10}" text-anchor="middle">{_text(self.x)}</text>')
        out.append(f'<text transform="translate(16,{self.HEIGHT / 2}) rotate(-90)" text-anchor="middle">{_text(self.y)}</text>')
        for at, (name, points) in enumerate(self.lines):
            colour = COLOURS[at % len(COLOURS)]
            path = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in _thin(points))
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            y = self.TOP + 14 + at * 18
            x = self.WIDTH - self.RIGHT + 14
            out.append(f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="3"/><text x="{x + 24}" y="{y}">{_text(name)}</text>')
        return "\n".join(out) + "</g>\n"


def write_svg(options, name, plots):
    """Plots below each other."""
    plots = [p for p in plots if p.lines]
    if not plots:
        return
    height = Plot.HEIGHT * len(plots)
    body = "".join(p.svg(at * Plot.HEIGHT) for at, p in enumerate(plots))
    path = pathlib.Path(options.out) / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{Plot.WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}</svg>\n'
    )
    print(f"wrote {path}", flush=True)


def cdf(values):
    """Points of the cumulative distribution."""
    ordered = sorted(values)
    return [(v, (i + 1) / len(ordered)) for i, v in enumerate(ordered)]


def _scale(values, log, begin, end):
    low, high = min(values), max(values)
    if log:
        low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
        high = max(high, low + 1)
        marks = [10.0**e for e in range(low, high + 1)]
        return lambda v: begin + (math.log10(v) - low) / (high - low) * (end - begin), marks
    low = min(low, 0)
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9)))
    step = next(step * f for f in (0.2, 0.5, 1, 2, 5) if (high - low) / (step * f) <= 6)
    high = max(math.ceil(high / step) * step, low + step)
    marks = [low + step * i for i in range(round((high - low) / step) + 1)]
    return lambda v: begin + (v - low) / (high - low) * (end - begin), [round(m, 12) for m in marks]


def _thin(points, most=1500):
    """Not more points than can be seen; peaks stay."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / (most / 2))
    out = []
    for at in range(0, len(points), size):
        part = points[at : at + size]
        out += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return out


def _text(value):
    return str(value).replace("&", "&amp;").replace("<", "&lt;")
