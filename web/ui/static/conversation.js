"use strict";
// The messages on a session's page: what streams, what is added, and a window of what was said.
// Uses the page's view, url and here, which session.js has.

const MESSAGES_MAX = 200;
const SCROLLED_MESSAGES_MAX = 600; // who scrolls further back has the newest ones taken away
const NEAR_TOP_PX = 200;
const PROGRESS_CHARACTERS_MAX = 20000;

function toEnd() {
  const messages = view.querySelector("[data-messages]");
  if (messages) messages.scrollTop = messages.scrollHeight;
}

const STEPS = {
  message(html) {
    STEPS.end();
    const messages = view.querySelector("[data-messages]");
    if (messages.querySelector("[data-later]")) return; // the reader is far back
    keepingEnd((atEnd) => {
      messages.append(...elements(html).childNodes);
      window.sessiond.localTimes(messages);
      if (atEnd) trim(messages);
    });
  },
  delta(index, kind, tool, text) {
    keepingEnd(() => draftBlock(index, kind, tool).append(text));
  },
  progress(call, tool, text) {
    keepingEnd(() => {
      const block = draftBlock(`tool ${call}`, "output", tool);
      block.textContent = (block.textContent + text).slice(-PROGRESS_CHARACTERS_MAX);
    });
  },
  end() {
    view.querySelector("[data-draft]").replaceChildren();
  },
};

function trim(messages) {
  const all = messages.querySelectorAll("[data-message]");
  if (all.length <= MESSAGES_MAX) return;
  for (const each of [...all].slice(0, all.length - MESSAGES_MAX)) each.remove();
  const before = all[all.length - MESSAGES_MAX].dataset.seq;
  let link = messages.querySelector("[data-earlier]");
  if (!link) {
    const line = linkLine("earlier", "Earlier messages");
    link = line.firstChild;
    messages.prepend(line);
  }
  link.href = `${url}?before=${before}&at=${here.seq}`;
  link.dataset.earlier = `${url}/at/${here.seq}?before=${before}`;
}

function keepingEnd(change) {
  const messages = view.querySelector("[data-messages]");
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
  change(atEnd);
  if (atEnd) toEnd();
}

function draftBlock(index, kind, tool) {
  const draft = view.querySelector("[data-draft]");
  let message = draft.querySelector("article");
  if (!message) {
    message = document.createElement("article");
    message.className = "message assistant";
    message.setAttribute("aria-label", "Answering");
    draft.append(message);
  }
  let block = message.querySelector(`[data-index="${CSS.escape(index)}"]`);
  if (!block) {
    block = document.createElement(kind === "plain" ? "pre" : "details");
    block.className = kind;
    block.dataset.index = index;
    if (kind !== "plain") {
      block.open = kind !== "thinking";
      const summary = document.createElement("summary");
      summary.textContent = { thinking: "Thinking", call: `Calls ${tool}`, output: `Output of ${tool} so far` }[kind];
      block.append(summary, document.createElement("pre"));
    }
    message.append(block);
  }
  return kind === "plain" ? block : block.querySelector("pre");
}

// Scrolling back ---------------------------------------------------------------------------------

let fetching = false;

async function earlier(link) {
  if (fetching) return;
  fetching = true;
  const html = await fragment(link.dataset.earlier.slice(url.length)).catch((error) => void fail(error.message));
  fetching = false;
  if (html === undefined || !link.isConnected) return;
  const messages = view.querySelector("[data-messages]");
  const height = messages.scrollHeight;
  link.closest(".earlier").replaceWith(...elements(html).childNodes);
  window.sessiond.localTimes(messages);
  messages.scrollTop += messages.scrollHeight - height;
  const all = [...messages.querySelectorAll("[data-message]")];
  if (all.length <= SCROLLED_MESSAGES_MAX) return;
  for (const each of all.slice(SCROLLED_MESSAGES_MAX)) each.remove();
  if (messages.querySelector("[data-later]")) return;
  const line = linkLine("later", "Back to the newest messages");
  line.firstChild.href = url;
  line.firstChild.dataset.later = "";
  messages.append(line);
}

function linkLine(name, text) {
  const line = document.createElement("p");
  line.className = name;
  const link = document.createElement("a");
  link.textContent = text;
  line.append(link);
  return line;
}
