"use strict";
// One session's page: the conversation as it goes on, and as it was at any event.

const root = document.querySelector("[data-session]");
const url = root.dataset.session;
const find = (name) => root.querySelector(`[data-${name}]`);
const view = find("view");
const slider = find("scrub");

const here = {
  seq: Number(root.dataset.seq),
  live: "live" in root.dataset,
  stream: null,
  asked: 0, // the newest request for a view: an older one's answer is thrown away
  playing: null,
};

const timeline = new Timeline(find("canvas"), url, Number(root.dataset.last), (seq) => {
  pause();
  seek(seq);
  if ("raw" in root.dataset) raw(seq);
});

function say(text) {
  const notice = find("notice");
  if (notice.textContent !== text) notice.textContent = text; // or it would be read out again
}

function fail(text) {
  const box = find("failure");
  box.textContent = text;
  box.hidden = !text;
}

async function fragment(path) {
  const answer = await fetch(url + path, { headers: { "HX-Request": "true" } });
  if (!answer.ok) throw new Error(await problem(answer));
  return answer.text();
}

async function problem(answer) {
  const login = answer.headers.get("HX-Redirect");
  if (login) location.assign(login);
  return (await answer.text()).slice(0, 500) || `The gateway answered ${answer.status}.`;
}

function elements(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}

// Moving through the events ---------------------------------------------------------------------

let wanted = null; // where a slider that is dragged has come to while an event is fetched
let seeking = false;

async function seek(seq) {
  wanted = here.seq = Math.min(Math.max(seq, 1), timeline.last);
  find("where").textContent = `Event ${wanted} of ${timeline.last}`;
  if (seeking) return;
  seeking = true;
  while (wanted !== null) {
    const next = wanted;
    wanted = null;
    await go(next);
  }
  seeking = false;
}

async function go(seq) {
  seq = Math.min(Math.max(seq, 1), timeline.last);
  here.seq = seq;
  here.live = false;
  slider.max = timeline.last;
  slider.value = seq;
  forkAt(seq);
  const asked = ++here.asked;
  view.ariaBusy = "true";
  const [html] = await Promise.all([
    fragment(`/at/${seq}`).catch((error) => error),
    timeline.show(seq).then(() => where(seq)),
  ]);
  if (asked !== here.asked) return;
  view.ariaBusy = "false";
  if (html instanceof Error) {
    view.replaceChildren();
    say(html.message);
    return;
  }
  install(html);
  say(here.playing ? "Playing." : `As it was at event ${seq}.`);
}

function forkAt(seq) {
  for (const each of root.querySelectorAll("[data-at]")) each.value = seq;
  const into = find("into");
  if (!into || into.value !== into.defaultValue) return; // somebody named it
  into.value = into.defaultValue = into.dataset.into + seq;
}

async function where(seq) {
  const mark = await timeline.mark(seq);
  if (seq !== here.seq) return;
  const time = mark ? new Date(mark[1]).toISOString().replace("T", " ").slice(0, 23) : "";
  const text = `Event ${seq} of ${timeline.last}${mark ? `: ${mark[4]}, ${time} UTC` : ""}`;
  find("where").textContent = text;
  slider.setAttribute("aria-valuetext", text);
}

function install(html) {
  view.replaceChildren(...elements(html).childNodes);
  window.sessiond.localTimes(view);
  toEnd();
}

async function now() {
  pause();
  wanted = null;
  const asked = ++here.asked;
  let html;
  try {
    html = await fragment("/at/now");
  } catch (error) {
    say(error.message);
    return;
  }
  if (asked !== here.asked) return;
  view.ariaBusy = "false";
  install(html);
  here.live = true;
  say("");
  const seq = Number(view.querySelector("[data-version]").dataset.version);
  timeline.last = Math.max(timeline.last, seq);
  follow(seq);
  await reached(seq);
}

async function reached(seq) {
  here.seq = seq;
  slider.max = timeline.last;
  slider.value = seq;
  forkAt(seq);
  await timeline.show(seq);
  await where(seq);
}

async function jump(kind, way) {
  pause();
  let from = here.seq;
  for (;;) { // each answer looks at some thousand events, and says how far it came
    const answer = await fetch(`${url}/jump?from=${from}&kind=${kind}&way=${way}`);
    if (!answer.ok) return;
    const found = await answer.json();
    if (found.found) return go(found.seq);
    if (found.seq === from) break;
    from = found.seq;
  }
  say(way === "on" ? `No ${kind} after this event.` : `No ${kind} before this event.`);
}

// Playing: events in their own time, so many times as fast ---------------------------------------

const STEP_MIN_MS = 60;
const STEP_MAX_MS = 250;
const PAUSE_MAX_MS = 2000;

async function play() {
  if (here.playing) return pause();
  if (here.seq >= timeline.last) here.seq = 0;
  const playing = (here.playing = {});
  find("play").setAttribute("aria-pressed", "true");
  find("play").textContent = "Pause";
  let took = 0; // what a step costs is made up for by showing more events in the next one
  while (here.playing === playing && here.seq < timeline.last) {
    const began = performance.now();
    const next = await following(here.seq, Math.min(Math.max(STEP_MIN_MS, took), STEP_MAX_MS));
    if (here.playing !== playing) return;
    await go(next.seq);
    took = performance.now() - began;
    const left = next.wait - took;
    if (left > 0) await new Promise((done) => setTimeout(done, left));
  }
  if (here.playing === playing) pause();
}

async function following(seq, least) {
  // Events that are closer than a step are shown together: nobody sees sixty pages a second.
  const speed = Number(find("speed").value);
  const from = await timeline.mark(seq);
  let wait = 0;
  let next = seq;
  while (next < timeline.last && wait < least) {
    next += 1;
    const mark = await timeline.mark(next);
    if (!mark) break;
    wait = from ? Math.max(mark[1] - from[1], 0) / speed : least;
  }
  return { seq: Math.max(next, seq + 1), wait: Math.min(Math.max(wait, STEP_MIN_MS), PAUSE_MAX_MS) };
}

function pause() {
  if (here.playing) say(`As it was at event ${here.seq}.`);
  here.playing = null;
  find("play").setAttribute("aria-pressed", "false");
  find("play").textContent = "Play";
}

// Live -------------------------------------------------------------------------------------------

function follow(seq) {
  if (here.stream) here.stream.close();
  const stream = (here.stream = new EventSource(`${url}/live?after=${seq}`));
  stream.onmessage = (event) => take(JSON.parse(event.data));
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED && here.stream === stream) {
      here.stream = null;
      if (here.live) say("Not connected any more. Choose Now to see what is new.");
    }
  };
}

function take(frame) {
  timeline.add(frame.marks);
  slider.max = timeline.last;
  if (!here.live) {
    where(here.seq);
    return;
  }
  for (const step of frame.steps) {
    if (step[0] === "anew") return void now();
    STEPS[step[0]](...step.slice(1));
  }
  if (frame.panel !== undefined) showPanel(elements(frame.panel));
  reached(frame.seq);
}

const waitsIn = (panel) => [...panel.querySelectorAll(".approval")].map((each) => each.dataset.approval).join();

function showPanel(fresh) {
  const panel = view.querySelector("[data-panel]");
  const waits = waitsIn(fresh);
  if (waits === waitsIn(panel) && panel.contains(document.activeElement)) return; // somebody writes a reason
  if (waits !== waitsIn(panel)) say(waits ? "A tool call waits for an approval." : "");
  panel.replaceChildren(...fresh.childNodes);
}

// What people do ---------------------------------------------------------------------------------

async function raw(seq, { reading = false } = {}) {
  const box = find("raw-box");
  if (!("raw" in root.dataset)) return;
  try {
    box.replaceChildren(...elements(await fragment(`/events/${seq}`)).childNodes);
    window.sessiond.localTimes(box);
  } catch (error) {
    box.textContent = error.message;
  }
  if (reading) box.focus();
}

async function send(form, button) {
  const fields = new FormData(form, button);
  const answer = await fetch(form.action, {
    method: "POST",
    body: new URLSearchParams(fields),
    headers: { "HX-Request": "true" },
  });
  if (!answer.ok) {
    fail(await problem(answer));
    return;
  }
  fail("");
  if ("clear" in form.dataset) form.reset();
  if (!here.live) await now();
}

view.addEventListener("scroll", (event) => {
  const link = event.target.querySelector?.("[data-earlier]");
  if (link && event.target.scrollTop < NEAR_TOP_PX) earlier(link);
}, true);

root.addEventListener("submit", (event) => {
  if (!("quiet" in event.target.dataset)) return;
  event.preventDefault();
  send(event.target, event.submitter).catch((error) => fail(error.message));
});

root.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-earlier], a[data-later]");
  if (link) {
    event.preventDefault();
    if ("earlier" in link.dataset) earlier(link);
    else if (here.live) now();
    else go(here.seq);
    return;
  }
  const button = event.target.closest("button, a");
  if (!button) return;
  if ("jump" in button.dataset) jump(button.dataset.jump, button.dataset.way);
  else if ("play" in button.dataset) play();
  else if ("showRaw" in button.dataset) raw(here.seq, { reading: true });
  else if ("now" in button.dataset) {
    event.preventDefault();
    now();
  }
});

slider.addEventListener("input", () => {
  pause();
  seek(Number(slider.value));
});

find("axis").addEventListener("change", (event) => {
  timeline.byTime = event.target.value === "time";
  timeline.draw();
});

const JUMPS = { p: "prompt", t: "tool", x: "error" };

document.addEventListener("keydown", (event) => {
  if (event.target.closest("dialog")) return;
  const field = event.target.closest("input, textarea, select, button, a, summary");
  if (event.key === "Enter" && event.ctrlKey && event.target.matches("[data-clear] textarea")) {
    event.target.form.requestSubmit(event.target.form.querySelector("button"));
    return;
  }
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target === slider && event.key.startsWith("Arrow")) return; // it moves by itself
  if (field && field !== slider && !["BUTTON", "A"].includes(field.tagName)) return;
  const kind = JUMPS[event.key.toLowerCase()];
  if (kind) jump(kind, event.shiftKey ? "back" : "on");
  else if (event.key === "ArrowRight") { pause(); seek(here.seq + (event.shiftKey ? 10 : 1)); }
  else if (event.key === "ArrowLeft") { pause(); seek(here.seq - (event.shiftKey ? 10 : 1)); }
  else if (event.key === " " && (!field || field === slider)) play();
  else if (event.key === "n") now();
  else if (event.key === "e") raw(here.seq, { reading: true });
  else if (event.key === "/" && document.getElementById("prompt")) document.getElementById("prompt").focus();
  else return;
  event.preventDefault();
});

toEnd();
timeline.show(here.seq).then(() => where(here.seq));
if (here.live) follow(here.seq);
