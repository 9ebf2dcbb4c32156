// Adds life to pages that are whole without it: reads them again when something has changed, shows times in the
// reader's own time zone, copies commands, and draws a cell for each node.

/** Updates are shown at most so often, in milliseconds. */
const AT_MOST_EVERY = 500;
/** A page is read again after so long though nothing was heard. */
const AT_LEAST_EVERY = 10_000;
/** Reading may take up to this part of the time: a slow cluster is asked less often. */
const SHARE = 1 / 4;

const byId = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// ---- small things ----

function localTimes(within) {
  // Of all languages, Swedish writes a date like everybody else's computer: 2026-01-31 12:00:00.
  const whole = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
  const today = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });
  for (const time of all("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.valueOf())) {
      time.title = time.textContent;
      time.textContent = (isToday(at) ? today : whole).format(at);
    }
  }
}

const isToday = (at) => at.toDateString() === new Date().toDateString();

function copyButtons(within) {
  // Without HTTPS browsers give pages no clipboard, except on localhost.
  if (!navigator.clipboard) return;
  for (const button of all("button.copy", within)) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.previousElementSibling.textContent);
  const label = button.textContent;
  button.textContent = button.dataset.copied;
  setTimeout(() => (button.textContent = label), 1500);
});

// ---- reading again ----

/** What the service sent last of each live part, before anything was done to it here. */
const sent = new Map();

function remember(from) {
  for (const part of all("[data-live]", from)) sent.set(part.id, part.innerHTML);
}

/** Somebody types there, or is about to answer what was asked. */
const isInUse = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select");

/** What makes an element the same as one before: a button that does something else must not have the focus now. */
function sameness(element) {
  const sends = element.form ? new URLSearchParams(new FormData(element.form)) : "";
  return [element.tagName, element.id, element.textContent, element.getAttribute("href"), sends].join("|");
}

function replace(part, html) {
  const open = all("details[open]", part).map((details) => details.id);
  const scrolled = all(".scroll", part).map((box) => [box.scrollLeft, box.scrollTop]);
  const focused = part.contains(document.activeElement) ? sameness(document.activeElement) : undefined;
  part.innerHTML = html;
  for (const id of open) if (id && byId(id)) byId(id).open = true;
  all(".scroll", part).forEach((box, place) => scrolled[place] && box.scrollTo(...scrolled[place]));
  const again = focused && all("a, button, summary, [tabindex]", part).find((one) => sameness(one) === focused);
  again?.focus({ preventScroll: true });
  localTimes(part);
  copyButtons(part);
}

function pulse(ok) {
  const live = byId("live");
  const shown = byId("pulse");
  if (!live || !shown) return;
  shown.className = `pulse ${ok ? "on" : "off"}`;
  shown.textContent = ok ? `● ${live.dataset.liveText}` : `○ ${live.dataset.lost}`;
}

let asked = false;
let reading = false;
let notBefore = 0;
let streamIsDown = false;

/** The page without what is only of the moment: a plan that was worked out is not worked out again and again. */
function address() {
  const url = new URL(location.href);
  for (const name of ["asked", "file", "strategy", "atOnce", "canary"]) url.searchParams.delete(name);
  return url;
}

const showsPlan = new URLSearchParams(location.search).has("file");

async function read() {
  const began = performance.now();
  try {
    const answer = await fetch(address(), { headers: { accept: "text/html" }, signal: AbortSignal.timeout(60_000) });
    if (answer.redirected || answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(`${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of all("[data-live]", page)) {
      const here = byId(part.id);
      const html = part.innerHTML;
      if (!here || sent.get(part.id) === html || isInUse(here) || (showsPlan && part.id === "plan")) continue;
      sent.set(part.id, html);
      replace(here, html);
    }
    follow(byId("live"), page.getElementById("live"));
    pulse(!streamIsDown);
    await map?.read();
  } catch {
    pulse(false);
  }
  const took = performance.now() - began;
  notBefore = performance.now() + Math.max(AT_MOST_EVERY, took / SHARE - took);
}

/** Reads soon; never two at once, and no more often than is allowed. */
async function readSoon() {
  asked = true;
  if (reading) return;
  reading = true;
  while (asked) {
    const wait = notBefore - performance.now();
    if (wait > 0) await new Promise((resume) => setTimeout(resume, wait));
    asked = false;
    if (document.hidden) break;
    await read();
  }
  reading = false;
}

let stream;

/** Listens to the upgrade that the page shows, which may be another than before. */
function follow(here, there) {
  if (!here || !there) return;
  const events = there.dataset.events ?? "";
  if (stream && here.dataset.events === events && stream.readyState !== EventSource.CLOSED) return;
  stream?.close();
  stream = undefined;
  here.dataset.events = events;
  if (!events) return;
  stream = new EventSource(events);
  for (const kind of ["timeline", "progress", "end", "closing"]) stream.addEventListener(kind, readSoon);
  stream.addEventListener("open", () => { streamIsDown = false; readSoon(); });
  stream.addEventListener("error", () => { streamIsDown = true; pulse(false); });
}

// ---- the map of the fleet ----

function cellOf(node, state) {
  const number = /\d*$/.exec(node)[0];
  return { node, state, stem: node.slice(0, node.length - number.length), number: Number(number) };
}

class FleetMap {
  constructor(place) {
    this.place = place;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", place.dataset.label);
    this.said = document.createElement("output");
    place.append(this.canvas, this.said);
    this.cells = [];
    this.at = -1;
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("click", () => this.open());
    this.canvas.addEventListener("focus", () => this.select(Math.max(this.at, 0)));
    this.canvas.addEventListener("blur", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => { if (this.width !== this.place.clientWidth) this.layout(); }).observe(place);
  }

  async read() {
    const answer = await fetch(this.place.dataset.fleet, { signal: AbortSignal.timeout(60_000) });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const text = await answer.text();
    if (text === this.text) return;
    this.text = text;
    this.show(JSON.parse(text).content);
  }

  /** Takes what was read, draws it, and notes how long that took. */
  show(fleet) {
    const began = performance.now();
    const selected = this.cells[this.at]?.node;
    this.groups = fleet.groups.map((group) => {
      const nodes = Object.entries(group.nodes).flatMap(([state, names]) => names.map((node) => cellOf(node, state)));
      // node-10 comes after node-9. A collator would do the same, and take longer than all the drawing.
      nodes.sort((a, b) => (a.stem < b.stem ? -1 : a.stem > b.stem ? 1 : a.number - b.number));
      return { value: group.value || this.place.dataset.none, nodes };
    });
    this.layout();
    this.at = selected === undefined ? -1 : this.cells.findIndex((cell) => cell.node === selected);
    this.place.classList.add("drawn");
    this.place.dataset.cells = this.cells.length;
    this.place.dataset.drawnIn = (performance.now() - began).toFixed(1);
  }

  /** Every cell gets its place: groups one below the other, each with its name. */
  layout() {
    if (!this.groups) return;
    this.width = this.place.clientWidth;
    const total = this.groups.reduce((sum, group) => sum + group.nodes.length, 0);
    this.size = total > 4000 ? 11 : total > 600 ? 15 : 22;
    this.columns = Math.max(1, Math.floor(this.width / this.size));
    this.cells = [];
    this.names = [];
    let top = 0;
    for (const group of this.groups) {
      this.names.push({ text: `${group.value} (${group.nodes.length})`, y: top + 15 });
      top += 22;
      group.nodes.forEach((cell, place) => {
        cell.x = (place % this.columns) * this.size;
        cell.y = top + Math.floor(place / this.columns) * this.size;
        this.cells.push(cell);
      });
      top += Math.ceil(group.nodes.length / this.columns) * this.size + 8;
    }
    this.height = top;
    this.draw();
  }

  /**
   * The legend has the shape, the colour and the name of each state. The shape is painted once and then copied: to
   * paint it fifteen thousand times would take longer.
   */
  looks(ratio) {
    const looks = new Map();
    const side = Math.round(this.size * ratio);
    for (const entry of all("#legend [data-condition]")) {
      const shape = entry.querySelector("svg.shape");
      const image = new OffscreenCanvas(side, side);
      const pen = image.getContext("2d");
      const scale = (this.size - 3) * ratio / 12;
      pen.setTransform(scale, 0, 0, scale, 1.5 * ratio, 1.5 * ratio);
      pen.fillStyle = getComputedStyle(shape).getPropertyValue(`--${entry.dataset.condition.toLowerCase()}`);
      pen.fill(new Path2D(shape.querySelector("path").getAttribute("d")));
      looks.set(entry.dataset.condition, { image, name: entry.dataset.name });
    }
    return looks;
  }

  draw() {
    if (!this.groups) return;
    const ratio = devicePixelRatio || 1;
    const style = getComputedStyle(document.body);
    this.canvas.width = Math.round(this.columns * this.size * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.width = `${this.columns * this.size}px`;
    this.canvas.style.height = `${this.height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = `600 13px ${style.fontFamily}`;
    pen.fillStyle = style.color;
    for (const name of this.names) pen.fillText(name.text, 0, name.y);
    this.known = this.looks(ratio);
    for (const cell of this.cells) {
      const look = this.known.get(cell.state);
      if (look) pen.drawImage(look.image, cell.x, cell.y, this.size, this.size);
    }
    const cell = this.cells[this.at];
    if (cell && document.activeElement === this.canvas) {
      pen.strokeStyle = style.color;
      pen.lineWidth = 2;
      pen.strokeRect(cell.x, cell.y, this.size, this.size);
    }
  }

  select(place) {
    this.at = Math.min(Math.max(place, 0), this.cells.length - 1);
    this.tell(this.cells[this.at]);
    this.draw();
  }

  tell(cell) {
    this.said.textContent = cell ? `${cell.node}: ${this.known?.get(cell.state)?.name ?? cell.state}` : "";
  }

  key(event) {
    const cell = this.cells[this.at];
    const row = (down) => {
      // The nearest cell of the next row that there is, also in another group.
      const rows = this.cells.filter((c) => (down ? c.y > cell.y : c.y < cell.y));
      const y = down ? Math.min(...rows.slice(0, this.columns + 1).map((c) => c.y)) : rows.at(-1)?.y;
      const there = rows.filter((c) => c.y === y);
      return there.length ? this.cells.indexOf(there.findLast((c) => c.x <= cell.x) ?? there[0]) : this.at;
    };
    const moves = {
      ArrowRight: () => this.at + 1,
      ArrowLeft: () => this.at - 1,
      ArrowDown: () => row(true),
      ArrowUp: () => row(false),
      Home: () => 0,
      End: () => this.cells.length - 1,
    };
    if (!cell || (event.key !== "Enter" && !moves[event.key])) return;
    event.preventDefault();
    if (event.key === "Enter") return this.open();
    this.select(moves[event.key]());
  }

  point(event) {
    const found = this.cells.findIndex(
      (c) => Math.floor((event.offsetX - c.x) / this.size) === 0 && Math.floor((event.offsetY - c.y) / this.size) === 0,
    );
    if (found < 0) return;
    this.at = found;
    this.tell(this.cells[found]);
    this.canvas.title = this.said.textContent;
  }

  /** Shows the node in the table. */
  open() {
    const cell = this.cells[this.at];
    if (!cell) return;
    const query = new URLSearchParams(location.search);
    for (const other of ["page", "state"]) query.delete(other);
    query.set("find", cell.node);
    location.href = `?${query}#nodes`;
  }
}

// ---- begin ----

remember(document);
localTimes(document);
copyButtons(document);
const place = byId("map");
const map = place ? new FleetMap(place) : undefined;
map?.read().catch(() => {});
if (all("[data-live]").length) {
  const live = byId("live");
  if (live) {
    const events = live.dataset.events;
    live.dataset.events = "";
    follow(live, { dataset: { events } });
    pulse(true);
  }
  setInterval(readSoon, AT_LEAST_EVERY);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) readSoon(); });
}
