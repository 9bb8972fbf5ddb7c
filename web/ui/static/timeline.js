"use strict";
// The events of a session on a time axis, drawn from pages of [seq, at, lane, kind, type].

const LANES = ["prompts", "model", "tools", "approvals", "session"];
const PAGE = 1000;
const PAGES_MAX = 20;
const GAP_MAX_MS = 2000; // a longer pause takes no more room than this

class Timeline {
  constructor(canvas, url, last, chosen) {
    this.canvas = canvas;
    this.url = url;
    this.last = last;
    this.pages = new Map(); // number of the page -> its marks, or the promise of them
    this.drawn = [];
    this.byTime = true;
    this.seq = last;
    canvas.addEventListener("click", (event) => {
      const seq = this.nearest(event.offsetX, event.offsetY);
      if (seq) chosen(seq);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  pageOf(seq) {
    return Math.floor((Math.max(seq, 1) - 1) / PAGE);
  }

  async page(number) {
    if (!this.pages.has(number)) {
      if (this.pages.size >= PAGES_MAX) this.pages.delete(this.pages.keys().next().value);
      this.pages.set(number, this.fetched(number));
    }
    return this.pages.get(number);
  }

  async fetched(number) {
    const answer = await fetch(`${this.url}/timeline?after=${number * PAGE}&limit=${PAGE}`);
    if (!answer.ok) {
      this.pages.delete(number);
      return [];
    }
    const marks = (await answer.json()).marks;
    this.last = Math.max(this.last, marks.length ? marks[marks.length - 1][0] : 0);
    this.pages.set(number, marks);
    return marks;
  }

  async mark(seq) {
    const marks = await this.page(this.pageOf(seq));
    return marks.find((mark) => mark[0] === seq);
  }

  add(marks) {
    for (const mark of marks) {
      this.last = Math.max(this.last, mark[0]);
      const page = this.pages.get(this.pageOf(mark[0]));
      if (Array.isArray(page)) {
        const end = page.length ? page[page.length - 1][0] : this.pageOf(mark[0]) * PAGE;
        if (end + 1 === mark[0]) page.push(mark);
        else if (end < mark[0]) this.pages.delete(this.pageOf(mark[0])); // some were missed
      } else if (page) {
        this.pages.delete(this.pageOf(mark[0])); // it was asked for too early: ask again
      }
    }
  }

  async show(seq) {
    this.seq = seq;
    await Promise.all(this.around(seq).map((number) => this.page(number)));
    this.draw();
  }

  around(seq) {
    // The page of an event, and the one on its nearer side: as much is seen before it as after it.
    const number = this.pageOf(seq);
    const other = (seq - 1) % PAGE < PAGE / 2 ? number - 1 : number + 1;
    return [number, other]
      .filter((each) => each >= 0 && each <= this.pageOf(this.last))
      .sort((a, b) => a - b);
  }

  shown() {
    const marks = this.around(this.seq)
      .map((number) => this.pages.get(number))
      .filter(Array.isArray)
      .flat();
    const here = marks.findIndex((mark) => mark[0] === this.seq);
    const start = Math.max(Math.min(here - PAGE / 2, marks.length - PAGE), 0);
    return marks.slice(start, start + PAGE);
  }

  places(marks, width) {
    let at = 0;
    let before = marks[0][1];
    const places = marks.map((mark, index) => {
      const gap = Math.min(Math.max(mark[1] - before, 0), GAP_MAX_MS);
      before = Math.max(before, mark[1]);
      at += this.byTime ? gap : index ? 1 : 0;
      return at;
    });
    if (at === 0) return marks.map((_mark, index) => (index / Math.max(marks.length - 1, 1)) * width);
    return places.map((place) => (place / at) * width);
  }

  draw() {
    const marks = this.shown();
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(`--${name}`).trim() || style.color;
    const names = 76;
    const lane = height / LANES.length;
    pen.font = `12px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    LANES.forEach((name, index) => {
      pen.fillStyle = color(`lane-${index}`);
      pen.fillText(name, 2, lane * (index + 0.5));
      pen.globalAlpha = 0.25;
      pen.fillRect(names, lane * (index + 0.5) - 0.5, width - names, 1);
      pen.globalAlpha = 1;
    });
    this.drawn = [];
    if (!marks.length) return;
    const places = this.places(marks, width - names - 6);
    marks.forEach((mark, index) => {
      const x = names + 2 + places[index];
      this.drawn.push([x, lane * (mark[2] + 0.5), mark[0]]);
      pen.fillStyle = mark[3] === "error" ? color("lane-error") : color(`lane-${mark[2]}`);
      const wide = mark[3] === "event" ? 1.5 : 4;
      pen.fillRect(x - wide / 2, lane * mark[2] + 3, wide, lane - 6);
    });
    const here = this.drawn.find((each) => each[2] === this.seq);
    if (here) {
      pen.fillStyle = style.color;
      pen.fillRect(here[0] - 1, 0, 2, height);
    }
  }

  nearest(x, y) {
    let found = 0;
    let least = Infinity;
    for (const [left, top, seq] of this.drawn) {
      const far = Math.abs(left - x) + Math.abs(top - y) * 0.5;
      if (far < least) [least, found] = [far, seq];
    }
    return found;
  }
}
