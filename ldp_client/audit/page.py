"""The audit's page: one template with its style inside, for the screen by day and night and for A4 paper."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Privacy audit: what is claimed, and what was measured</title>
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
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.4rem 0 .6rem; }
p { margin: 0 0 .9rem; max-width: 46rem; }
.source, footer { color: var(--muted); font-size: .9em; }
.tiles { list-style: none; padding: 0; margin: 1.6rem 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.tiles li { background: var(--tint); border-left: 4px solid var(--teal); border-radius: 4px; padding: .7rem .9rem; }
.tiles strong { display: block; font-size: 1.35rem; line-height: 1.3; }
.tiles span { display: block; color: var(--muted); font-size: .9rem; line-height: 1.35; }
.bad .tiles li:first-child { border-color: var(--bad); }
.bad .tiles li:first-child strong, .bad .verdict, .wrong th, .wrong td { color: var(--bad); font-weight: 700; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95em; }
caption { text-align: left; color: var(--muted); font-size: .9em; padding-bottom: .4rem; }
th, td { padding: .38rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; font-weight: 400;
  vertical-align: baseline; white-space: nowrap; }
tbody th, .words td { white-space: normal; }
thead th { white-space: normal; }
th:first-child { text-align: left; }
.words td { text-align: left; }
thead th { color: var(--muted); font-size: .9em; line-height: 1.3; vertical-align: bottom; }
.words thead th { text-align: left; }
.meter { display: inline-block; vertical-align: middle; width: 6rem; height: .5rem; margin-right: .6rem;
  background: var(--rule); border-radius: 3px; overflow: hidden; }
.meter i { display: block; height: 100%; background: var(--teal); }
.wrong .meter i { background: var(--bad); }
pre { background: var(--tint); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto;
  font: .85em/1.5 ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
@media (max-width: 36rem) { th, td { padding: .4rem .25rem; } table { font-size: .85em; } .meter { display: none; } }
footer { margin-top: 2.4rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
@page { size: A4; margin: 17mm 16mm; }
@media print {
  :root { --paper: #ffffff; --ink: #000000; --muted: #444444; --rule: #c8c8c8; --tint: #f3f5f6; --teal: #0b6e75;
    --bad: #a32018; }
  body { font-size: 10pt; line-height: 1.45; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 20pt; } h2 { font-size: 13pt; margin-top: 16pt; break-after: avoid; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 6pt; margin: 12pt 0; }
  .tiles li { padding: 5pt 7pt; } .tiles strong { font-size: 12.5pt; } .tiles span { font-size: 8.5pt; }
  tr, .tiles, pre { break-inside: avoid; }
  td, th { padding: 2.5pt 6pt; }
}
</style>
</head>
<body class="$state">
<main>
<h1>What is claimed, and what was measured</h1>
<p class="source">A privacy audit of the software installed on this machine. No X-ray was read for it.</p>
<ul class="tiles">$tiles</ul>

<h2>In short</h2>
<p class="verdict">$verdict</p>
<p>A record that leaves the hospital carries random noise. Its <em>epsilon</em> says how much it can tell about the
X-ray and its label at most: the smaller, the less. That every claim is true was proved on paper. This audit asks
whether the programs here do what the paper says: it plays the attacker against them, with everything an attacker could
know, and measures how much epsilon at least is needed to explain what the attacker found out. If that were more than is
claimed, the claim would be false.</p>

<h2>Claimed and measured</h2>
<div class="scroll"><table>
<caption>Found by an attacker from samples. A bar near its end says that the claim could not be any smaller; a short one
says that this attack is not the strongest, or had too few samples.</caption>
<thead><tr><th scope="col">mechanism</th><th scope="col">epsilon claimed</th><th scope="col">measured, at least</th>
<th scope="col">share of the claim</th><th scope="col">verdict</th></tr></thead>
<tbody>$sampled</tbody></table></div>
<div class="scroll"><table>
<caption>Found without chance: every outcome's probability computed as a fraction of whole numbers, for inputs of every
bad kind (not a number, infinite, zero, all equal). It may meet the claim, and may not pass it by a millionth.</caption>
<thead><tr><th scope="col">mechanism</th><th scope="col">epsilon claimed</th><th scope="col">measured</th>
<th scope="col">share of the claim</th><th scope="col">verdict</th></tr></thead>
<tbody>$exact</tbody></table></div>

<h2>An attack that breaks textbook noise</h2>
<p>Noise that is computed with the usual decimal numbers of a computer leaves traces in their last digits. An attacker
who looks there told two inputs apart $float_success of the time, although the noise promised at most $ceiling. Here
noise is made of whole numbers, which leave no such trace: the best of the same attacks reached $our_success.</p>
<div class="scroll"><table>
<thead><tr><th scope="col">target</th><th scope="col">guessed right</th><th scope="col">ceiling</th>
<th scope="col">guesses</th><th scope="col">verdict</th></tr></thead>
<tbody>$attacks</tbody></table></div>

<h2>Would this audit notice a mistake?</h2>
<p>Each of these mistakes is easily made, hard to see, and was made on purpose in a copy of a mechanism. An audit that
misses one of them counts as failed.</p>
<div class="scroll"><table class="words">
<thead><tr><th scope="col">mistake</th><th scope="col">noticed by</th><th scope="col">verdict</th></tr></thead>
<tbody>$twins</tbody></table></div>

<h2>Is it the noise of the proof?</h2>
<div class="scroll"><table>
<caption>How likely it is to see a deviation as large as the largest one seen, if the noise is right. A check fails at
$each or less.</caption>
<thead><tr><th scope="col">what was drawn</th><th scope="col">samples</th><th scope="col">events looked at</th>
<th scope="col">p-value</th><th scope="col">verdict</th></tr></thead>
<tbody>$fits</tbody></table></div>

<h2>What this does not show</h2>
<p>A measurement can show that a claim is false, never that it is true: for that there is the proof. Epsilon does not
say that a record is anonymous, and the audit does not look at the network, the keys or the budgets, which the ledger's
own verification covers.</p>

<h2>How to repeat it</h2>
<pre>ldp-client audit</pre>
<p>It needs no network, no X-ray and no key. $checks of the checks rest on samples; each accuses a right mechanism with
a probability of at most $each, and the whole run with at most $alpha. The bounds are Clopper and Pearson's, exact for
every number of samples.</p>

<footer><p>$effort audit, $seconds seconds. $versions. Research use, not a medical device.</p></footer>
</main>
</body>
</html>
""")
