// What every page does besides htmx: times in the reader's zone, errors that can be read, and
// questions before what can't be undone.
"use strict";

(() => {
  const shownTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const shownDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  function localTimes(root) {
    for (const each of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(each.dateTime);
      if (!Number.isNaN(at.getTime())) {
        each.title = each.textContent;
        const isToday = at.toDateString() === new Date().toDateString();
        each.textContent = (isToday ? shownTime : shownDay).format(at);
        each.dataset.local = "";
      }
    }
  }

  function say(text) {
    const toast = document.getElementById("toast");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => { toast.hidden = true; }, 8000);
  }

  document.addEventListener("htmx:responseError", (event) => {
    const request = event.detail.xhr;
    say(request.responseText.slice(0, 500) || `The gateway answered ${request.status}.`);
  });
  document.addEventListener("htmx:sendError", () => say("The gateway can't be reached."));
  document.addEventListener("htmx:afterSwap", (event) => localTimes(event.target));
  // Nothing is swapped under a reader's hands: who types or has something selected is left alone.
  // What has an id gets the focus back.
  function isInUse(target) {
    const active = document.activeElement;
    const chosen = document.getSelection();
    if (chosen && !chosen.isCollapsed && target.contains(chosen.anchorNode)) return true;
    return target.contains(active) && (!active.id || active.matches("input, textarea, select"));
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    const polled = event.detail.elt.matches && event.detail.elt.matches("[data-live]");
    if (polled && (isInUse(target) || document.hidden)) {
      event.detail.shouldSwap = false;
    }
  });
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }, true);
  document.addEventListener("click", (event) => {
    const copied = event.target.closest("[data-copy]");
    if (copied && navigator.clipboard) {
      navigator.clipboard.writeText(document.getElementById(copied.dataset.copy).textContent)
        .then(() => { copied.textContent = "Copied"; }, () => say("Copy it by hand: the browser refuses."));
    }
  });
  for (const each of document.querySelectorAll("[data-keys]")) {
    each.hidden = false;
    each.addEventListener("click", () => document.getElementById("keys").showModal());
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable], dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") document.getElementById("keys").showModal();
    if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) {
        event.preventDefault();
        search.focus();
      }
    }
  });
  const current = document.querySelector(".top nav [aria-current]");
  if (current) {
    current.scrollIntoView({ block: "nearest", inline: "center" });
  }
  document.addEventListener("DOMContentLoaded", () => localTimes(document));
  if (document.readyState !== "loading") {
    localTimes(document);
  }
  window.sessiond = { localTimes, say };
})();
