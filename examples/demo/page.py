"""The report's page: one template with its style inside, for the screen by day and night and for A4 paper."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What left the hospitals, and what it cost</title>
<style>
:root { --paper: #ffffff; --ink: #1b2733; --muted: #55616e; --rule: #d5dbe1; --tint: #f2f6f7; --teal: #0b6e75;
  --bad: #a32018; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12181e; --ink: #e6ebef; --muted: #a5b1bc; --rule: #35414c; --tint: #1b242c; --teal: #62c3ca;
    --bad: #ff8f85; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.4rem 0 .6rem; }
p { margin: 0 0 .9rem; }
.source, figcaption, footer { color: var(--muted); font-size: .9em; }
.tiles { list-style: none; padding: 0; margin: 1.6rem 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.tiles li { background: var(--tint); border-left: 4px solid var(--teal); border-radius: 4px; padding: .7rem .9rem; }
.tiles strong { display: block; font-size: 1.45rem; line-height: 1.3; }
.tiles span { display: block; color: var(--muted); font-size: .9rem; line-height: 1.35; }
.bad .tiles li:last-child { border-color: var(--bad); }
.bad .tiles li:last-child strong, .bad .verdict { color: var(--bad); font-weight: 700; }
figure { margin: 1rem 0 1.4rem; }
img { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--rule); border-radius: 6px;
  padding: .6rem; }
.narrow img { max-width: 34rem; }
figcaption { margin-top: .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: .9em; padding-bottom: .4rem; }
th, td { padding: .45rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; font-weight: 400; }
th:first-child { text-align: left; }
thead th { color: var(--muted); font-size: .9em; line-height: 1.3; vertical-align: bottom; }
tfoot th, tfoot td { font-weight: 700; border-bottom: 0; }
pre { background: var(--tint); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .8em/1.5 ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
li { margin-bottom: .3rem; }
@media (max-width: 36rem) { th, td { padding: .4rem .25rem; } table { font-size: .85em; } }
footer { margin-top: 2.4rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
@page { size: A4; margin: 17mm 16mm; }
@media print {
  :root { --paper: #ffffff; --ink: #000000; --muted: #444444; --rule: #c8c8c8; --tint: #f3f5f6; --teal: #0b6e75;
    --bad: #a32018; }
  body { font-size: 10.5pt; line-height: 1.5; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 20pt; } h2 { font-size: 13pt; margin-top: 16pt; break-after: avoid; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 6pt; margin: 12pt 0; }
  .tiles li { padding: 5pt 7pt; } .tiles strong { font-size: 13pt; } .tiles span { font-size: 8.5pt; }
  figure, table, pre, .tiles { break-inside: avoid; }
  img { border: 0; padding: 0; max-width: 138mm; }
  .budget img { max-width: 115mm; }
  .narrow img { max-width: 88mm; }
  td, th { padding: 3pt 6pt; }
  ul { margin-top: 0; }
  figure { margin: 6pt 0 10pt; }
}
</style>
</head>
<body class="$state">
<main>
<h1>What left the hospitals, and what it cost</h1>
<p class="source">$data. $honest</p>
<ul class="tiles">$tiles</ul>

<h2>What happened</h2>
$happened

<h2>What is not promised</h2>
<ul>$limits</ul>

<h2>What left, and what it gives away</h2>
$xrays

<h2>What each site has spent</h2>
<div class="scroll">
<table>
<caption>$unit_sentence Epsilon covers X-ray and label together.</caption>
<thead><tr><th scope="col">site</th><th scope="col">records sent</th><th scope="col">epsilon per record</th>
<th scope="col">bound per $unit spent</th><th scope="col">budget per $unit</th><th scope="col">remaining</th></tr>
</thead>
<tbody>$rows</tbody>
<tfoot><tr><th scope="row">all sites</th><td>$total</td><td></td><td></td><td></td><td></td></tr></tfoot>
</table>
</div>
<div class="budget">$budget</div>

<h2>What was learnt</h2>
<div class="narrow">$roc</div>

<h2>How to check this yourself</h2>
<p>Every record, its cost and the budgets stand in two ledgers, the hospitals' and the centre's, whose entries are
chained and signed. Both exports lie beside this report. This command recomputes every chain, signature, cost and budget
from the exports alone; it needs neither a network nor trust in the centre:</p>
<pre>$command</pre>
<p class="verdict">$verdict</p>
<pre>$lines</pre>
<p>The keys it checks are those named in the exports: compare the printed fingerprints with those you were told by
another channel.</p>

<footer>
<p>Mechanism: $mechanism. The run took $seconds seconds. $honest</p>
</footer>
</main>
</body>
</html>
""")
