"""What a report looks like, and the few lines that make its pictures go with a slider."""

from __future__ import annotations

STYLE = """
:root { --raw: #b9cbe4; --mean: #0b5cad; --evidence: #d5dce8; --edge: #7b889e; --key: #8a2f6b; --value: #0a6b3d; }
@media (prefers-color-scheme: dark) { :root { --raw: #34506f; --mean: #7db8f2; --evidence: #3a4557; --edge: #7f8ba0;
  --key: #e29ac8; --value: #7fd6a5; } }
html { scroll-behavior: smooth; }
body { max-width: 72rem; }
header h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .35rem; }
header p { margin: .15rem 0; }
.lead { font-size: 1.1rem; color: var(--soft); }
nav { margin: 1.1rem 0 0; font-size: .92rem; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
nav a { color: var(--rule); text-decoration: none; }
nav a:hover { text-decoration: underline; }
main > section { margin-top: 2.6rem; padding-top: 1.5rem; border-top: 2px solid var(--line); }
main > section > h2 { font-size: 1.4rem; margin: 0 0 .8rem; }
.note { color: var(--soft); font-size: .9rem; margin: .4rem 0; }
.notes { margin: 1rem 0 0; padding: .6rem 1rem .6rem 2rem; background: var(--panel); border-left: 4px solid var(--warn);
  border-radius: .3rem; font-size: .92rem; }

.spec { margin: 0; padding: .9rem 0; background: var(--panel); border-radius: .5rem; overflow-x: auto;
  counter-reset: line; font: .86rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.spec .l { display: block; padding-right: 1rem; white-space: pre; }
.spec .l::before { counter-increment: line; content: counter(line); display: inline-block; width: 2.6rem;
  padding-right: 1rem; text-align: right; color: var(--soft); opacity: .65; }
.spec .c { color: var(--soft); font-style: italic; }
.spec .k { color: var(--key); }
.spec .n { color: var(--value); }

.joint-list { display: flex; flex-wrap: wrap; gap: 1rem; align-items: stretch; }
.joint { margin: 0; padding: .8rem 1rem; background: var(--panel); border-radius: .5rem; max-width: 100%; }
.joint > figcaption { margin: 0 0 .6rem; }
.products { display: flex; flex-wrap: wrap; gap: .8rem 1.8rem; align-items: flex-start; }
.product h4 { margin: 0 0 .4rem; font-size: .85rem; font-weight: 400; color: var(--soft); }
.graph { display: block; max-width: 100%; height: auto; }
.graph rect { fill: var(--paper); stroke: var(--ink); stroke-width: 1.1; }
.graph .evidence rect { fill: var(--evidence); }
.graph .hidden rect { stroke-dasharray: 4 3; }
.graph .global rect { stroke-width: 2.2; }
.graph .plate { fill: none; stroke: var(--soft); stroke-width: 1; }
.graph text { text-anchor: middle; fill: var(--ink); font: 15.5px "STIX Two Text", "Latin Modern Roman", Cambria,
  Georgia, "Times New Roman", "DejaVu Serif", serif; }
.graph .i { font-style: italic; }
.graph .sub { font-size: .7em; }
.graph text.about { font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--soft); }
.graph .edge { fill: none; stroke: var(--edge); stroke-width: 1.2; }
.graph .head { fill: var(--edge); }

.objective { padding: .2rem 1.2rem .8rem; background: var(--loss-panel); border-radius: .5rem; }
.objective dd { margin-left: 0; }
.objective dt { font-weight: 400; color: var(--loss); }
@media (max-width: 40rem) { math { font-size: 1em; } }

.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1.2rem; }
.curves figure { margin: 0; break-inside: avoid; }
.curves figcaption { margin-bottom: .2rem; }
.curves .note { margin: 0; }
.curve { display: block; width: 100%; height: auto; }
.curve text { fill: var(--soft); font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.curve .grid { fill: none; stroke: var(--line); stroke-width: 1; }
.curve .raw { fill: none; stroke: var(--raw); stroke-width: 1; stroke-linejoin: round; }
.curve .mean { fill: none; stroke: var(--mean); stroke-width: 2; stroke-linejoin: round; }
.curve .dot { fill: var(--mean); }

.slide { display: none; align-items: center; gap: 1rem; margin: 0 0 1rem; }
.slide input { flex: 1; min-width: 6rem; accent-color: var(--mean); }
.slide output { min-width: 7.5rem; font-variant-numeric: tabular-nums; }
.kind { margin: 0 0 1.6rem; }
.kind h3 { font-size: 1rem; margin: 0 0 .1rem; }
.frames { display: flex; flex-wrap: wrap; gap: .8rem; margin-top: .5rem; }
.frame { margin: 0; flex: 0 1 15rem; break-inside: avoid; }
.frame img { display: block; width: 100%; height: auto; border-radius: .3rem; border: 1px solid var(--line); }
.grid img { image-rendering: pixelated; }
.frame figcaption { font-size: .85rem; color: var(--soft); }
@media screen {
  .sliding .slide { display: flex; position: sticky; top: 0; z-index: 1; padding: .5rem 0; background: var(--paper); }
  .sliding .kinds { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fit, minmax(min(22em, 100%), 1fr)); }
  .sliding .frame { display: none; flex: 1 1 100%; }
  .sliding .frame.on { display: block; }
}

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
caption { text-align: left; padding: .4rem 0; font-weight: 600; }
th, td { text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 400; color: var(--soft); }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts th { white-space: nowrap; }
.scroll + .scroll, .tables + .scroll { margin-top: 1.2rem; }
.tables { display: flex; flex-wrap: wrap; gap: 1.2rem 4rem; align-items: flex-start; }
.tables .scroll { margin: 0; max-width: 100%; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }

@media print {
  :root { color-scheme: light; --paper: #ffffff; }
  body { font-size: 10.5pt; }
  nav, .slide { display: none; }
  main > section { break-inside: auto; }
  h2, h3, h4, figcaption { break-after: avoid; }
  .note { break-after: avoid; }
  .joint, .kind, tr { break-inside: avoid; }
  .curves { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  table { font-size: .85rem; }
  .frame { flex-basis: 8.5rem; }
  .spec { white-space: pre-wrap; }
  .spec .l { white-space: pre-wrap; }
}
"""

SCRIPT = """
const album = document.querySelector(".album"), input = album.querySelector("input");
const frames = [...album.querySelectorAll(".frame")];
const rounds = [...new Set(frames.map(f => +f.dataset.round))].sort((a, b) => a - b);
function show() {
  const now = rounds[input.value];
  album.querySelector("output").textContent = "round " + now.toLocaleString("en");
  for (const kind of album.querySelectorAll(".kind")) {
    const own = [...kind.querySelectorAll(".frame")], seen = own.filter(f => +f.dataset.round <= now);
    own.forEach(f => f.classList.toggle("on", f === (seen.at(-1) || own[0])));
  }
}
input.max = input.value = rounds.length - 1;
input.addEventListener("input", show);
album.classList.toggle("sliding", rounds.length > 1);
show();
"""
"""One round's pictures at a time; without it, and on paper, all of them stand in rows."""
