"Keep stored pictures of notebooks small: at most 820 px wide, as the site shows them, and 100 kB each. Usage: python tools/shrink.py NOTEBOOK..."
import base64, io, json, sys
from PIL import Image

LIMIT, WIDTH = 100_000, 820

def limit_pixels(b64:str)->str:
    "A PNG as base64, made small; one that is small already stays as it is."
    raw = base64.b64decode(b64)
    im = Image.open(io.BytesIO(raw)); im.load()
    if len(raw) <= LIMIT and im.width <= WIDTH: return b64
    for width, colors in ((WIDTH, 0), (WIDTH, 255), (WIDTH, 128), (520, 255), (520, 128), (360, 64), (300, 48)):
        small, out = im.convert('RGB'), io.BytesIO()
        small.thumbnail((width, 10*width), Image.LANCZOS)
        if colors: small = small.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE if colors < 100 else None)
        small.save(out, 'PNG', optimize=True)
        if out.tell() <= LIMIT: break
    return base64.b64encode(out.getvalue()).decode()

def main(paths):
    for p in paths:
        text = open(p, encoding='utf-8').read(); nb = json.loads(text)
        for o in (o for c in nb['cells'] for o in c.get('outputs', [])):
            d = o.get('data', {})
            if 'image/png' in d: d['image/png'] = limit_pixels(''.join(d['image/png'])); d.pop('image/jpeg', None)
        new = json.dumps(nb, indent=1, ensure_ascii=False) + '\n'
        if new != text: open(p, 'w', encoding='utf-8').write(new)

if __name__ == '__main__': main(sys.argv[1:])
