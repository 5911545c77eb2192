"""How the page looks: one style sheet, light and dark, narrow and wide, on screen and on paper.

Only the page's own fonts, colours and lines: nothing is loaded. The heights of names beside the picture are those of
`page_figure` and `page_charts`.
"""

__all__ = ["STYLE"]

_LIGHT = """
  color-scheme: light;
  --page: #f6f7f8; --card: #ffffff; --ink: #16191d; --soft: #565e68; --line: #dfe3e8; --faint: #eceff2;
  --accent: #0b5cad; --code: #f3f5f7; --on-bar: #ffffff; --hatch: rgb(22 25 29 / 0.05);
  --good: #17713a; --good-bg: #e3f5e8; --bad: #b3202c; --bad-bg: #fdeaea; --care: #875004; --care-bg: #fdf1dc;
  --pulling: #64748b; --acked: #4d6d8e; --prep: #7548c7; --running: #1c63cf; --uploading: #0b7570;
  --retry: #9a5806; --done: #17713a; --failed: #c2202c; --daemon: #b3202c; --reboot: #7a2fb5; --coordinator: #9a5806;
"""
_DARK = """
  color-scheme: dark;
  --page: #0f1215; --card: #171b20; --ink: #e7eaee; --soft: #9aa5b1; --line: #2c333b; --faint: #20262c;
  --accent: #7db8f5; --code: #12161a; --on-bar: #0c1014; --hatch: rgb(231 234 238 / 0.06);
  --good: #62d083; --good-bg: #12301d; --bad: #ff8a83; --bad-bg: #3a1618; --care: #ebb45f; --care-bg: #352509;
  --pulling: #94a3b8; --acked: #86aed3; --prep: #b79bff; --running: #6fb1ff; --uploading: #45c9c0;
  --retry: #e3a94f; --done: #58c979; --failed: #ff7d75; --daemon: #ff8a83; --reboot: #c99bff; --coordinator: #e3a94f;
"""

_SHEET = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0 auto; max-width: 1440px; padding: 1.75rem 1.5rem 3rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
code, pre, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code, pre, .mono { font-size: 0.9em; unicode-bidi: isolate; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
h1, h2, p, dl, dd, figure, pre, ul, ol { margin: 0; padding: 0; }
h2 { font-size: 1.05rem; font-weight: 650; letter-spacing: -0.005em; margin-bottom: 0.75rem; }
h2 small { font-size: 0.82rem; font-weight: 400; color: var(--soft); margin-left: 0.5rem; letter-spacing: 0; }

header { margin-bottom: 1.25rem; }
.eyebrow { color: var(--soft); font-size: 0.8rem; margin-bottom: 0.35rem; }
h1 { font-size: 1.55rem; line-height: 1.25; font-weight: 680; letter-spacing: -0.015em; }
h1 span { color: var(--soft); font-weight: 400; font-size: 1.1rem; letter-spacing: 0; white-space: nowrap; }
.verdict { display: flex; gap: 0.75rem; align-items: baseline; margin-top: 0.75rem; font-size: 1.05rem; }
.verdict b { flex: none; padding: 0.1rem 0.65rem; border-radius: 999px; font-size: 0.85rem; line-height: 1.6; }
.v-good b { background: var(--good-bg); color: var(--good); }
.v-bad b { background: var(--bad-bg); color: var(--bad); }
.v-care b { background: var(--care-bg); color: var(--care); }
.alert { border-left: 4px solid var(--bad); background: var(--bad-bg); padding: 0.6rem 0.9rem; border-radius: 4px; }
.alert { margin-top: 0.9rem; }

.facts {
  display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); margin-top: 1.1rem; gap: 1px;
  background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
}
.facts div { background: var(--card); padding: 0.55rem 0.85rem 0.65rem; }
.facts dt { color: var(--soft); font-size: 0.76rem; }
.facts dd { font-size: 1.02rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.35; }
.facts dd small { display: block; font-weight: 400; color: var(--soft); font-size: 0.78rem; }

section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem 1.15rem;
  margin-bottom: 1rem; min-width: 0;
}
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1rem; align-items: start; }
.why { list-style: none; }
.why li { margin: 0.35rem 0; }
.why { max-width: 62rem; } .refs { font-size: 0.82em; margin-left: 0.5em; white-space: nowrap; color: var(--soft); }
.refs a { text-decoration: none; padding: 0 0.5em; border: 1px solid var(--line); border-radius: 999px; }
.refs a:hover { border-color: var(--accent); }
.quiet { color: var(--soft); }
.note { color: var(--soft); font-size: 0.86rem; margin-top: 0.6rem; }

figure + figure { margin-top: 1.4rem; padding-top: 1.1rem; border-top: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: 0.86rem; margin-bottom: 0.7rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.plot { display: grid; grid-template-columns: 196px minmax(0, 1fr); padding-right: 14px; }
.names > div { display: flex; flex-direction: column; justify-content: center; line-height: 1.25; font-size: 12px; }
.names b, .names span { white-space: nowrap; }
.names b { font-weight: 600; letter-spacing: 0.01em; }
.names span { color: var(--soft); font-variant-numeric: tabular-nums; }
.g-events { height: 56px; justify-content: flex-start; }
.names .g-events { justify-content: flex-start; }
.names .g-lane { height: 30px; flex-direction: row; justify-content: flex-start; align-items: center; gap: 0.5em; }
.names .g-lane span { margin-left: auto; padding-right: 14px; }
.names .g-lane::before { content: ""; width: 8px; height: 8px; border-radius: 2px; flex: none; }
.names .g-lane::before { background: currentColor; }
.names .g-lane b { color: var(--ink); }
.names .g-chart { height: 92px; justify-content: flex-start; padding-top: 8px; }
.names .g-axis { height: 36px; justify-content: flex-start; padding-top: 4px; }
.names .g-closer { height: 24px; justify-content: flex-start; padding-top: 4px; }
svg.time { display: block; overflow: visible; font-size: 11px; font-variant-numeric: tabular-nums; }
svg.time text { fill: var(--soft); }
.mark, .mark text { overflow: visible; }
.rule { stroke: var(--faint); }
.grid { stroke: var(--line); stroke-dasharray: 1 3; }
.axis { stroke: var(--soft); }
svg.time .tick { fill: var(--ink); }
.join { stroke: var(--soft); stroke-opacity: 0.45; }
.stem { stroke: var(--soft); }
.leader { stroke: var(--soft); stroke-opacity: 0.5; }
.bar { stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; fill: currentColor; }
.bar.sparse { fill-opacity: 0.4; stroke-opacity: 0.4; }
.bar.open { fill-opacity: 0.55; stroke-dasharray: 4 3; }
.end { fill: currentColor; stroke: var(--card); stroke-width: 2; }
svg.time .spent { fill: var(--on-bar); font-weight: 600; pointer-events: none; }
.s-PULLING { color: var(--pulling); } .s-ACKED { color: var(--acked); } .s-PREP { color: var(--prep); }
.s-RUNNING { color: var(--running); } .s-UPLOADING { color: var(--uploading); } .s-RETRY_WAIT { color: var(--retry); }
.s-DONE { color: var(--done); } .s-FAILED { color: var(--failed); } .s-IDLE { color: var(--soft); }
.s-OUTAGES, .z-daemon { color: var(--daemon); } .z-reboot { color: var(--reboot); }
.z-coordinator { color: var(--coordinator); }
.zone { fill: currentColor; fill-opacity: 0.09; stroke: currentColor; stroke-opacity: 0.4; stroke-width: 1; }
.zone { stroke-dasharray: 2 3; }
.break { fill: var(--card); stroke: currentColor; stroke-width: 1.75; stroke-dasharray: 5 3; }
.mark rect { fill: var(--card); stroke: var(--soft); stroke-width: 1.25; }
svg.time .mark text { fill: var(--ink); text-anchor: middle; font-size: 11px; font-weight: 600; }
.mark a { text-decoration: none; cursor: pointer; }
.mark a:hover rect, .mark a:focus-visible rect { fill: var(--faint); stroke: var(--accent); stroke-width: 2; }
.mark.t-good rect { fill: var(--good-bg); stroke: var(--good); } svg.time .t-good text { fill: var(--good); }
.mark.t-bad rect { fill: var(--bad-bg); stroke: var(--bad); } svg.time .t-bad text { fill: var(--bad); }
.mark.t-care rect { fill: var(--care-bg); stroke: var(--care); } svg.time .t-care text { fill: var(--care); }
.closer { fill: var(--accent); stroke: var(--accent); } svg.time .letter { fill: var(--accent); font-weight: 600; }
.chart .level { stroke: var(--faint); } svg.time .chart text.level { stroke: none; fill: var(--soft); }
.chart .area { fill: currentColor; fill-opacity: 0.16; }
.chart .line { fill: none; stroke: currentColor; stroke-width: 1.6; vector-effect: non-scaling-stroke; }
.chart .line { stroke-linecap: round; stroke-linejoin: round; }
.chart path.limit { stroke: var(--bad); stroke-width: 1.2; stroke-dasharray: 5 4; vector-effect: non-scaling-stroke; }
svg.time .chart text.limit { fill: var(--bad); }
.chart.c-cpu { color: var(--running); } .chart.c-memory { color: var(--prep); }
.chart.c-disk { color: var(--uploading); }
.outages { margin-top: 0.9rem; font-size: 0.9rem; list-style: none; }
.outages li { padding: 0.3rem 0 0.3rem 0.8rem; border-left: 3px solid currentColor; margin-top: 0.3rem; }
.outages span { color: var(--ink); } .outages b { font-weight: 650; }

.scroll { overflow: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; }
caption { text-align: left; color: var(--soft); font-size: 0.86rem; padding-bottom: 0.5rem; }
th, td { text-align: left; vertical-align: top; padding: 0.38rem 0.7rem 0.38rem 0; border-top: 1px solid var(--faint); }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 0.8rem; white-space: nowrap; }
th[scope="row"] { font-weight: 600; }
td.num, th.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.time, td.hash, td.event, td.chain { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.state { white-space: nowrap; font-size: 0.82rem; }
td.state i { font-style: normal; display: inline-block; width: 8px; height: 8px; border-radius: 2px; }
td.state i { background: currentColor; margin-right: 0.45em; } td.state span { color: var(--ink); }
td.what { min-width: 14rem; }
tr:target { background: var(--care-bg); } tr:target > * { border-top-color: var(--care); }
tr.tone-bad th, tr.doubt td { color: var(--bad); }
.yes { color: var(--good); } .no { color: var(--bad); font-weight: 600; }
.tag { display: inline-block; font-size: 0.76rem; padding: 0 0.5em; border-radius: 4px; margin-right: 0.45em; }
.tag { background: var(--care-bg); color: var(--care); } .tag.bad { background: var(--bad-bg); color: var(--bad); }
tr.between td { color: var(--soft); background: var(--code); text-align: center; padding: 0.45rem; }
details summary { cursor: pointer; } summary::marker { color: var(--soft); font-size: 0.8em; }
details[open] summary { margin-bottom: 0.4rem; }
pre {
  background: var(--code); border: 1px solid var(--faint); border-radius: 8px; padding: 0.7rem 0.85rem; overflow: auto;
  white-space: pre-wrap; line-height: 1.45; font-size: 12.5px; tab-size: 4; max-height: 30rem;
}
details pre { max-height: 18rem; }
.plain { display: grid; grid-template-columns: fit-content(45%) minmax(0, 1fr); gap: 0.3rem 1rem; font-size: 0.9rem; }
.plain dt { color: var(--soft); }
footer { color: var(--soft); font-size: 0.82rem; margin-top: 1.5rem; }

@media (min-width: 820px) { .middle, .narrow { display: none; } }
@media (min-width: 520px) and (max-width: 819.98px) {
  .narrow { display: none; } .facts { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
@media (max-width: 519.98px) { .middle { display: none; } .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 819.98px) {
  .wide { display: none; }
  body { padding: 1rem 10px 2rem; }
  section { padding: 0.8rem 8px 0.9rem; border-radius: 8px; }
  h2 { margin-bottom: 0.55rem; } h2 small { display: block; margin-left: 0; }
  .pair { display: block; }
  .verdict { flex-direction: column; gap: 0.4rem; }
  .plot { grid-template-columns: 96px minmax(0, 1fr); padding-right: 12px; }
  .names > div { font-size: 11px; } .names .g-chart span { white-space: normal; padding-right: 6px; }
  .names .g-lane { flex-direction: column; align-items: flex-start; justify-content: center; gap: 0; }
  .names .g-lane { line-height: 1.15; }
  .names .g-lane::before { display: none; }
  .names .g-lane span { margin-left: 0; padding-right: 0; font-size: 10.5px; }
  .records thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .records tbody tr { display: grid; grid-template-columns: 2.2rem minmax(0, 1fr) auto; padding: 0.5rem 0; }
  .records tbody tr { border-top: 1px solid var(--line); column-gap: 0.5rem; }
  .records tbody th, .records tbody td { border: 0; padding: 0.05rem 0; }
  .records tbody td.event { grid-column: 2; grid-row: 1; } .records tbody th { grid-row: 1 / span 4; text-align: left; }
  .records tbody td.chain { grid-column: 3; grid-row: 1; text-align: right; }
  .records tbody td.time { grid-column: 2; grid-row: 2; font-size: 0.8rem; color: var(--soft); }
  .records tbody td.gap { grid-column: 3; grid-row: 2; font-size: 0.8rem; color: var(--soft); }
  .records tbody td.state { grid-column: 2 / -1; grid-row: 3; white-space: normal; }
  .records tbody td.what { grid-column: 2 / -1; grid-row: 4; width: auto; min-width: 0; }
  .records tbody td.hash { display: none; }
  .records tbody tr.between { display: block; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; background: none; }
  section { border: 0; padding: 0; margin-bottom: 14pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  pre { max-height: none; } figure, tr, .facts { break-inside: avoid; } h2 { break-after: avoid; }
  .pair { display: block; } thead { display: table-header-group; }
}
"""

STYLE = (
    f":root {{{_LIGHT}}}\n@media (prefers-color-scheme: dark) {{ :root {{{_DARK}}} }}\n"
    f"@media print {{ :root {{{_LIGHT}}} }}\n{_SHEET}"
)
