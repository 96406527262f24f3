"""How the report's page looks, in light and dark and on a phone."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #5c6670; --line: #dde2e7; --paper: #ffffff;
  --fill: #0b6fb8; --over: #b5480a; --warn: #fff4d6; --good: #1c7a3c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --dim: #9aa5b0; --line: #333c45;
  --paper: #14181c; --fill: #5db4f0; --over: #f0965a; --warn: #3a3016; --good: #6cc98a; --bad: #f2857d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
p { margin: 0.25rem 0; overflow-wrap: anywhere; }
.dim, caption, figcaption { color: var(--dim); }
.big { font-size: 2rem; font-weight: 600; margin: 1rem 0 0; }
.big.good { color: var(--good); } .big.bad { color: var(--bad); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 0.75rem 1.5rem;
  margin: 1rem 0; }
dl div { border-top: 1px solid var(--line); padding-top: 0.25rem; min-width: 0; }
dt { color: var(--dim); font-size: 0.85rem; overflow-wrap: anywhere; }
small { color: var(--dim); }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 0.25rem 0.5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 10rem; }
tr.best td { font-weight: 600; }
.warning { background: var(--warn); padding: 0.4rem 0.6rem; border-radius: 0.3rem; margin: 0.4rem 0; }
svg.histogram { width: 192px; height: 40px; display: block; }
.within { fill: var(--fill); } .over { fill: var(--over); }
.limit { stroke: var(--ink); stroke-width: 1.5; }
svg.bar { width: 10rem; height: 0.8rem; display: block; }
.key { display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.3em 0 0.8em; }
.key.in { background: var(--fill); } .key.out { background: var(--over); }
.key.alone { border: 3px solid #ffb000; } .key.both { border: 2px solid #35d07f; }
.pair { margin: 0 0 1.5rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem; }
.sides > div { min-width: 0; }
@media (max-width: 32rem) { .sides { grid-template-columns: 1fr; } }
svg.picture { width: 100%; height: auto; display: block; background: #000; }
svg.picture rect { fill: none; stroke: #35d07f; stroke-width: 2; }
svg.picture .alone rect { stroke: #ffb000; stroke-width: 4; }
svg.picture text { fill: #fff; stroke: #000; stroke-width: 3px; paint-order: stroke; font-size: 14px; }
ol { margin: 0.25rem 0; padding-left: 1.5rem; font-size: 0.85rem; overflow-wrap: anywhere; }
"""
