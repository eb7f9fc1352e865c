"use strict";
const at = id => document.getElementById(id);
async function call(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.title}: ${answer.detail}`);
  return answer;
}
// The recommendation as it is made: fetch, since EventSource cannot POST.
async function watch(path, body, told) {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  const response = await fetch(path, { method: "POST", headers, body });
  if (!response.ok) {
    const problem = await response.json();
    throw new Error(`${problem.title}: ${problem.detail}`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const found = event.match(/^event: (.*)\ndata: (.*)$/s); // none in a comment that keeps the line open
      if (found) told[found[1]]?.(JSON.parse(found[2]));
    }
  }
}
function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}
function card(item, ...notes) {
  const li = element("li");
  if (item.image_url) {
    const img = element("img");
    img.src = item.image_url; img.alt = ""; img.loading = "lazy";
    li.append(img);
  } else li.append(element("div", "no image", "blank"));
  li.append(element("div", item.title));
  for (const [text, name] of notes) li.append(element("div", text, name || "note"));
  return li;
}
function moved(item) {
  const up = item.base_rank - item.rank;
  return up === 0 ? [`#${item.rank} · ${item.source}`] : [`#${item.rank} · ${item.source} · ${up > 0 ? "▲" : "▼"}${Math.abs(up)}`, "note moved"];
}
function fact(name, value) {
  const span = element("span", `${name} `);
  span.append(element("b", String(value)));
  return span;
}
async function recommend() {
  at("problem").textContent = "";
  at("go").disabled = true;
  try {
    const user = at("user").value;
    const query = new URLSearchParams({ strategy: at("strategy").value, cache: at("cache").value, explain: at("explain").checked });
    if (at("backbone").value) query.set("backbone", at("backbone").value);
    const body = JSON.stringify({ user_id: user, k: Number(at("k").value), deadline_ms: Number(at("deadline").value) });
    const placed = [];
    let candidates = [], answer;
    const draw = () => {
      const decided = new Set(placed.map(item => item.item_id));
      const rest = candidates.filter(item => !decided.has(item.item_id));
      at("items").replaceChildren(...[...placed, ...rest].slice(0, candidates.length).map(item => card(item, moved(item))));
    };
    await watch(`recommend?${query}`, body, {
      candidates: told => { candidates = told.items; draw(); },
      item: told => { placed.push(told); draw(); },
      answer: told => { answer = told; },
      error: told => { throw new Error(`${told.title}: ${told.detail}`); },
    });
    at("items").replaceChildren(...answer.items.map(item => card(item, moved(item))));
    at("explanation").textContent = unescape_(answer.explanation);
    const facts = [fact("served", answer.served), fact("outcome", answer.outcome), fact("backbone", `${answer.backbone.name} (${answer.backbone.family})`), fact("total", `${answer.timings_ms.total.toFixed(1)} ms`)];
    const lvlm = answer.lvlm;
    if (lvlm) facts.push(fact("LVLM", `${lvlm.provider} ${lvlm.model}`), fact("cache", lvlm.cache), fact("tokens", `${lvlm.input_tokens} in, ${lvlm.output_tokens} out`), fact("cost", lvlm.cost_usd === null ? "unknown" : `$${lvlm.cost_usd.toFixed(5)}${lvlm.simulated ? " simulated" : ""}`));
    for (const warning of answer.warnings) facts.push(element("span", `⚠ ${warning}`));
    at("facts").replaceChildren(...facts);
    const history = await call(`users/${encodeURIComponent(user)}/history`).catch(() => ({ items: [] }));
    at("history").replaceChildren(...history.items.slice(-10).reverse().map(item => card(item)));
  } catch (error) {
    at("problem").textContent = error.message;
  } finally {
    at("go").disabled = false;
  }
}
// The service sends explanations HTML-escaped; as text they need no escaping, and no parser of HTML sees them.
const escaped = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'" };
function unescape_(text) {
  return (text || "").replace(/&(?:amp|lt|gt|quot|#x27);/g, found => escaped[found]);
}
at("form").addEventListener("submit", event => { event.preventDefault(); recommend(); });
(async () => {
  try {
    const { bundle } = await call("health/ready");
    const backbones = Object.entries(bundle.backbones).map(([name, { family }]) => [name, family === name ? name : `${name} (${family})`]);
    at("bundle").textContent = `${bundle.dataset}: ${bundle.items} items, ${bundle.users} users, backbones ${backbones.map(([, words]) => words).join(", ")}`;
    at("backbone").append(...backbones.map(([name, words]) => { const option = element("option", words); option.value = name; return option; }));
    const { users } = await call("users?limit=50");
    at("users").replaceChildren(...users.map(user => { const option = element("option"); option.value = user.user_id; return option; }));
    if (users.length) { at("user").value = users[0].user_id; recommend(); }
  } catch (error) { at("problem").textContent = error.message; }
})();
