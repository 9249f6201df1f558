"""A curve as an SVG, without any library: a logarithmic x axis, a y axis from zero."""
import math
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 72, 32, 44, 76
COLOURS = ["#7f7f7f", "#d1495b", "#3d6fb6", "#2e8b57"]


def round_up(value):
    """The next that is a small number of tens, hundreds, …, so that a quarter of it is easily read."""
    unit = 10 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 4.8, 6, 8, 10) if step * unit >= value)


def svg(curve, about):
    xs = sorted({x for points in curve["series"].values() for x, _ in points})
    top = round_up(max(y for points in curve["series"].values() for _, y in points) or 1)

    def at_x(x):
        # Zero has a place too.
        low, high = math.log10(xs[0] + 1), math.log10(xs[-1] + 1)
        return LEFT + (math.log10(x + 1) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def at_y(y):
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="15">{escape(curve["title"])}</text>']
    for n in range(5):
        y = top * n / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{y:,.{0 if top >= 20 else 1}f}</text>')
    for x in xs:
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:,}</text>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 32}" text-anchor="end">{escape(curve["x"])}</text>')
    out.append(f'<text x="{LEFT}" y="38">{escape(curve["y"])}</text>')
    for n, (label, points) in enumerate(curve["series"].items()):
        colour = COLOURS[n % len(COLOURS)]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{LEFT + 140 * n}" y="{HEIGHT - 24}" fill="{colour}">{escape(label)}</text>')
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 8}" font-size="9" fill="#666666">'
               f'{escape(about["date"])}, {escape(about["machine"])}</text></svg>')
    return "\n".join(out) + "\n"
