"use strict";
// The stage: one large picture, faded in the browser from the pictures that the slider is made of.
(() => {
  /**
   * @typedef {{years: number, path: string, age: number}} Key
   * @typedef {{visit: string, set: string, view: string, who: number, before: string, after: string,
   *   years: number, own: Record<string, number>, now: number, then: number, quality: string, dot: string,
   *   note: string, place: number[], low: number, high: number,
   *   faces: {x: number, y: number, w: number, h: number, age: number | null}[]}} Board
   * @typedef {{years: number, age: number, image: HTMLImageElement}} Stop
   */

  const REST = 150; // ms without a move after which the exact edit is asked for
  const EASE = 40; // ms in which the picture comes within a third of where the thumb is
  const HOLD = 180; // ms: a press that is longer shows the photo, a shorter one chooses another
  const STEP = 10; // years between two key pictures
  const FIRST = 2; // the example that an opened page shows
  const AGAIN = 1500; // ms after which a page that Gradio was not listening to yet asks again
  const TRIES = 20;
  const OPENING = 15000; // ms after which a page without its example asks for a photo
  const TOKEN = "agedit"; // in this tab's own storage: which visit it shows

  const find = selector => document.querySelector(selector);
  const address = path => `gradio_api/file=${path}`;
  const language = navigator.language.startsWith("zh") ? "zh" : "en";

  /** What the server told last in one of the letters, {} if nothing. */
  const read = name => {
    const letter = find(`#${name} [data-told]`);
    return letter ? JSON.parse(decodeURIComponent(letter.dataset.told)) : {};
  };

  const make = (name, kind, text = "") => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (text) element.textContent = text;
    if (name === "button") element.type = "button";
    return element;
  };

  class Stage {
    constructor() {
      this.words = read("words")[language];
      /** @type {Partial<Board>} */
      this.board = {};
      this.keys = {};
      /** @type {Record<string, string>} */
      this.letters = {};
      this.token = sessionStorage.getItem(TOKEN) ?? "";
      /** @type {Map<string, HTMLImageElement>} */
      this.images = new Map();
      this.scaled = new Map();
      this.mode = "result";
      this.held = false;
      this.target = this.shown = 20;
      this.moved = 0; // when the slider moved last
      this.picked = 0; // when a face was picked last
      this.who = -1; // which face; -1 is everyone
      /** @type {Record<string, number>} each face's years, the last move included */
      this.own = {};
      this.source = {example: FIRST};
      this.chosen = null;
      this.past = [];
      this.split = 0.3;
      this.build();
      this.strip = new window.AgeEditStrip(find("#strip"), this.words);
      this.listen();
      this.cells();
      this.strip.point(this.target, "");
      this.start();
    }

    // what there is

    build() {
      const {words} = this;
      this.root = make("div", "ae-stage opening");
      setTimeout(() => this.root.classList.remove("opening"), OPENING);
      this.root.id = "result";
      this.root.tabIndex = 0;
      this.root.setAttribute("role", "group");
      this.root.setAttribute("aria-label", words.stage);
      this.frame = make("div", "frame");
      this.canvas = make("canvas", "fade");
      this.canvas.setAttribute("aria-hidden", "true");
      this.rings = make("div", "rings");
      this.frame.append(this.canvas, this.rings);
      this.divider = make("div", "divider");
      this.divider.tabIndex = 0;
      this.divider.setAttribute("role", "slider");
      this.divider.setAttribute("aria-label", words.divider);
      this.divider.setAttribute("aria-valuemin", "0");
      this.divider.setAttribute("aria-valuemax", "100");
      this.frame.append(this.divider);
      this.tag = make("span", "tag");
      this.note = make("span", "note");
      this.note.setAttribute("role", "status");
      this.hold = make("button", "pill", words.hold);
      this.hold.id = "hold";
      this.zoom = make("button", "pill zoom");
      this.zoom.id = "zoom";
      this.everyone = make("button", "pill everyone", words.everyone);
      this.everyone.id = "everyone";
      this.empty = make("div", "empty");
      this.empty.append(make("b", "", "＋"), make("span", "", words.drop));
      this.root.append(this.empty, this.frame, this.tag, this.note, this.everyone, this.hold, this.zoom);
      find("#stage").append(this.root);
      this.buildSide();
      this.camera = make("button", "ae-camera", words.camera);
      this.camera.id = "camera";
      find("#photo").after(this.camera);
    }

    buildSide() {
      const {words} = this;
      this.number = make("b", "number");
      this.now = make("span", "now");
      const ages = make("div", "ae-ages");
      ages.append(this.number, this.now, make("small", "", words.looks));
      this.segments = make("div", "segments");
      this.segments.setAttribute("role", "group");
      this.segments.setAttribute("aria-label", words.view);
      this.buttons = ["result", "split", "pair"].map(mode => {
        const button = make("button", "", words[mode]);
        button.id = `mode-${mode}`;
        button.addEventListener("click", () => this.choose(mode));
        return button;
      });
      this.segments.append(...this.buttons);
      find("#ages").append(ages, this.segments);
      this.undo = make("button", "ae-undo", words.undo);
      this.undo.id = "undo";
      this.undo.disabled = true;
      this.dot = make("button", "ae-dot");
      this.dot.id = "quality";
      this.dot.setAttribute("aria-controls", "settings");
      this.dot.setAttribute("aria-expanded", "false");
      this.dot.append(make("i"), make("span", "", words.waiting));
      find("#side").append(this.undo, this.dot);
      this.close = make("button", "ae-close", "×");
      this.close.setAttribute("aria-label", words.close);
      find("#settings").prepend(this.close);
    }

    get range() {
      return find("#years input[type=range]");
    }

    // what follows what

    listen() {
      document.addEventListener("input", event => {
        if (event.target !== this.range) return;
        this.target = Number(event.target.value);
        this.moved = performance.now();
        for (const face of this.who < 0 ? Object.keys(this.own) : [this.who]) this.own[face] = this.target;
        clearTimeout(this.resting);
        this.resting = setTimeout(() => this.rest(), REST);
        this.ask();
      });
      this.hold.addEventListener("pointerdown", () => this.holding(true));
      for (const end of ["pointerup", "pointercancel", "blur"]) {
        window.addEventListener(end, () => this.holding(false));
      }
      for (const pressed of [this.hold, this.root]) {
        pressed.addEventListener("keydown", event => {
          if (event.target !== pressed || event.key !== " ") return;
          event.preventDefault();
          this.holding(true);
        });
        pressed.addEventListener("keyup", event => event.key === " " && this.holding(false));
      }
      this.listenToStage();
      this.zoom.addEventListener("click", () => this.press("#view", this.board.view === "photo" ? 1 : 0));
      this.everyone.addEventListener("click", () => this.press("#who", 0));
      this.undo.addEventListener("click", () => this.goBack());
      this.camera.addEventListener("click", () => this.openCamera());
      const toggle = open => {
        find("#try").classList.toggle("with-settings", open);
        this.dot.setAttribute("aria-expanded", String(open));
      };
      this.dot.addEventListener("click", () => toggle(!find("#try").classList.contains("with-settings")));
      this.close.addEventListener("click", () => {
        toggle(false);
        this.dot.focus();
      });
      document.addEventListener("keydown", event => event.key === "Escape" && toggle(false));
      new ResizeObserver(() => this.layout()).observe(this.root);
      new ResizeObserver(() => this.cells()).observe(this.strip.root);
      document.addEventListener("change", event => {
        if (event.target.closest?.("#who")) this.pick(event.target);
        if (event.target.closest?.("#photo") && event.target.files?.length) {
          this.chosen = {file: event.target.files[0]};
        }
      }, true);
      find("#examples").addEventListener("click", event => {
        const all = [...document.querySelectorAll("#examples button")];
        const number = all.indexOf(event.target.closest("button"));
        if (number >= 0) this.chosen = {example: number};
      }, true);
    }

    /** Press and hold for the photo, tap or drop for another, drag the divider. */
    listenToStage() {
      let pressed = 0;
      let timer = 0;
      const isFree = event => !event.target.closest("button, .divider, .ae-lens");
      this.root.addEventListener("pointerdown", event => {
        if (!isFree(event) || event.button > 0) return;
        pressed = performance.now();
        timer = setTimeout(() => this.holding(true), HOLD);
      });
      this.root.addEventListener("click", event => {
        clearTimeout(timer);
        const isTap = pressed && performance.now() - pressed < HOLD;
        pressed = 0;
        if (isFree(event) && isTap) this.input()?.click();
      });
      for (const end of ["pointercancel", "pointerleave"]) {
        this.root.addEventListener(end, () => {
          clearTimeout(timer);
          pressed = 0;
        });
      }
      this.root.addEventListener("contextmenu", event => isFree(event) && this.held && event.preventDefault());
      const move = event => {
        const box = this.frame.getBoundingClientRect();
        this.cut((event.clientX - box.left) / box.width);
      };
      this.divider.addEventListener("pointerdown", event => {
        this.divider.setPointerCapture(event.pointerId);
        this.divider.addEventListener("pointermove", move);
      });
      this.divider.addEventListener("lostpointercapture", () => {
        this.divider.removeEventListener("pointermove", move);
      });
      this.divider.addEventListener("keydown", event => {
        const by = {ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02}[event.key];
        if (!by) return;
        event.preventDefault();
        this.cut(this.split + by);
      });
      this.listenToFiles();
    }

    listenToFiles() {
      const over = on => this.root.classList.toggle("over", on);
      document.addEventListener("dragover", event => {
        if (!event.dataTransfer?.types.includes("Files") || event.target.closest?.("#import")) return;
        event.preventDefault();
        over(true);
      });
      document.addEventListener("dragleave", event => event.relatedTarget || over(false));
      document.addEventListener("drop", event => {
        over(false);
        if (!event.dataTransfer?.files.length || !find("#try")?.offsetParent) return;
        event.preventDefault();
        this.take(event.dataTransfer.files);
      });
      // a picture pasted anywhere goes the way of one that was chosen
      document.addEventListener("paste", event => {
        const files = [...(event.clipboardData?.files ?? [])].filter(file => file.type.startsWith("image/"));
        if (!files.length) return;
        event.preventDefault();
        event.stopPropagation();
        this.take(files);
      }, true);
    }

    input() {
      return find("#photo input[type=file]");
    }

    /** @param {ArrayLike<File>} files  the first one that may be a photo */
    take(files) {
      const named = /\.(jpe?g|png|webp|avif|heic|heif|tiff?|bmp|gif)$/i;
      const photo = [...files].find(file => file.type.startsWith("image/") || named.test(file.name));
      if (!photo) {
        this.say(this.words.not_a_picture);
        return;
      }
      const chosen = new DataTransfer();
      chosen.items.add(photo);
      this.input().files = chosen.files;
      this.input().dispatchEvent(new Event("change", {bubbles: true}));
    }

    press(group, number) {
      document.querySelectorAll(`${group} input`)[number]?.click();
    }

    /** A page that is loaded again goes on with its visit; another shows an example. */
    start(tries = 0) {
      this.letters.first ??= find("#board [data-told]")?.dataset.told;
      const field = find("#token textarea, #token input");
      const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set;
      set.call(field, this.token);
      field.dispatchEvent(new Event("input", {bubbles: true}));
      setTimeout(() => this.chosen || find("#start").click(), 30); // when Gradio has taken the token
      const isAnswered = () => this.chosen || this.letters.board !== this.letters.first;
      if (tries < TRIES) setTimeout(() => isAnswered() || this.start(tries + 1), AGAIN);
    }

    /** The slider rests: the exact edit is asked for, as when it is let go. */
    rest() {
      this.resting = 0;
      if (!this.board.after || this.target === this.board.years && this.board.best) return;
      this.range.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
    }

    // what the server tells

    listenToServer() {
      const changed = this.isNews("board");
      if (changed) this.show(read("board"));
      if (this.isNews("keys")) {
        this.keys = read("keys");
        for (const key of this.keys.keys ?? []) this.image(key.path);
        this.cells();
      }
      const line = find("#line .md")?.innerText.trim() ?? "";
      if (!changed && line !== this.line && this.line !== undefined) this.say(line);
      this.line = line;
      if (this.isNews("outbox")) this.save(read("outbox"));
    }

    /** Whether a letter says something else than when it was read last. */
    isNews(name) {
      const text = find(`#${name} [data-told]`)?.dataset.told;
      if (text === undefined || text === this.letters[name]) return false;
      this.letters[name] = text;
      return true;
    }

    save(file) {
      if (!file.path) return;
      const link = make("a");
      link.href = address(file.path);
      link.download = file.name;
      link.click();
    }

    /** @param {Partial<Board>} board */
    show(board) {
      const before = this.board;
      const isOther = board.visit !== before.visit;
      this.remember(before, board, isOther);
      this.board = board;
      this.root.classList.toggle("without", !board.after);
      if (!board.after) {
        this.clear();
        return;
      }
      sessionStorage.setItem(TOKEN, board.visit);
      this.root.classList.remove("opening");
      this.follow(board, isOther, board.who !== before.who);
      if (isOther) this.forget();
      this.picture("before", board.before, `${this.words.before} ${Math.round(board.now)}`);
      this.picture("after", board.after, `${this.words.edit} ${Math.round(board.then)}`);
      this.image(board.before);
      this.image(board.after);
      this.dot.dataset.dot = board.dot;
      this.dot.lastChild.textContent = board.quality;
      this.dot.setAttribute("aria-label", `${board.quality}. ${this.words.settings}`);
      this.say(board.note);
      this.zoom.textContent = board.view === "photo" ? this.words.zoom : this.words.whole;
      this.now.textContent = `${this.words.now} ${Math.round(board.now)}`;
      if (isOther) this.cut(board.place[0] + 0.2 * board.place[2]);
      this.ringed();
      this.cells();
    }

    /** Another face: the thumb goes to its own years at once, before anything is asked with those of the last. */
    pick(input) {
      this.picked = performance.now();
      this.who = [...document.querySelectorAll("#who input")].indexOf(input) - 1;
      const years = this.own[Math.max(0, this.who)];
      if (years !== undefined) this.slide(years);
    }

    /** The thumb goes where the edit is, but never from under the visitor's finger. */
    follow(board, isOther, isOtherFace) {
      const isMoving = this.resting || performance.now() - this.moved < REST;
      const isAhead = isOtherFace ? this.moved > this.picked : isMoving;
      if (isOther) this.who = board.who;
      if (isOther || board.who === this.who && !isAhead) {
        this.own = {...board.own};
        this.target = board.years;
      }
      if (!isOther && isOtherFace && !isAhead && board.who === this.who) this.slide(board.years);
    }

    /** Put the thumb at `years`, for Gradio to know, too. */
    slide(years) {
      const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
      set.call(this.range, String(years));
      this.range.dispatchEvent(new Event("input", {bubbles: true}));
      clearTimeout(this.resting); // nothing is asked for that is there
      this.resting = 0;
      this.moved = 0;
    }

    /** No photo: nothing of the person before stays. */
    clear() {
      this.forget();
      for (const image of this.frame.querySelectorAll("img")) image.remove();
      this.before = this.after = null;
      this.canvas.width = this.canvas.width; // wipes it
      this.rings.replaceChildren();
      this.number.textContent = this.now.textContent = this.tag.textContent = "";
      this.dot.lastChild.textContent = "";
      sessionStorage.removeItem(TOKEN);
      this.everyone.hidden = true;
      this.strip.drawn = "";
      this.strip.draw([], {x: 0, y: 0, w: 1, h: 1});
      this.strip.point(this.target, "");
    }

    forget() {
      const kept = new Set([this.board.before, this.board.after]);
      for (const path of this.images.keys()) if (!kept.has(path)) this.images.delete(path);
      this.scaled.clear();
    }

    /** @param {"before" | "after"} name */
    picture(name, path, text) {
      if (!this[name]) {
        this[name] = make("img", name);
        this[name].draggable = false;
        this[name].addEventListener("load", () => this.layout());
        if (name === "before") this.canvas.before(this[name]);
        else this.canvas.after(this[name]);
      }
      this[name].alt = text;
      if (this[name].getAttribute("src") !== address(path)) this[name].src = address(path);
    }

    /** A picture of this visit, loaded once; the stage is drawn again when it is there. */
    image(path) {
      if (!this.images.has(path)) {
        const image = new Image();
        this.images.set(path, image);
        image.src = address(path);
        image.decode().then(() => {
          this.cells();
          this.ask();
        }, () => this.images.delete(path)); // its visit has ended
      }
      const image = this.images.get(path);
      return image.complete && image.naturalWidth ? image : null;
    }

    /** @returns {Stop[]}  what can be faded into each other, by years */
    stops() {
      const {board} = this;
      if (!board.after) return [];
      const all = new Map();
      const add = (years, age, path) => {
        const image = this.image(path);
        if (image) all.set(years, {years, age, image});
      };
      const alone = Object.entries(board.own)
        .every(([face, years]) => !years || board.who < 0 || Number(face) === board.who);
      if (alone) add(0, board.now, board.before);
      if (this.keys.set === board.set) for (const key of this.keys.keys) add(key.years, key.age, key.path);
      add(board.years, board.then, board.after);
      return [...all.values()].sort((a, b) => a.years - b.years);
    }

    cells() {
      const {board} = this;
      const low = board.low ?? -30;
      const high = board.high ?? 40;
      const own = this.keys.set === board.set ? this.keys : {};
      const usual = Array.from({length: Math.round((high - low) / STEP) + 1}, (_, k) => low + k * STEP);
      const years = own.stops ?? usual;
      this.strip.scale(years);
      if (!board.after) return;
      const known = Object.fromEntries((own.keys ?? []).map(key => [key.years, key.path]));
      const stops = this.stops();
      const nearest = value => stops.toSorted((a, b) => Math.abs(a.years - value) - Math.abs(b.years - value))[0];
      const images = years.map(value => ({
        years: value,
        image: known[value] && this.image(known[value]) || nearest(value)?.image || null,
      }));
      const [x, y, w, h] = board.place;
      this.strip.draw(images, {x, y, w, h});
      this.ask();
    }

    // the picture

    /** Where the picture stands: as large as it fits, twice in a pair. */
    layout() {
      const natural = this.before?.naturalWidth ? this.before : this.after;
      const width = this.root.clientWidth;
      const height = this.root.clientHeight;
      if (!natural?.naturalWidth || !width) return;
      const isPair = this.mode === "pair";
      const ratio = natural.naturalWidth / natural.naturalHeight;
      const beside = Math.min(width / 2 / ratio, height) >= Math.min(width / ratio, height / 2);
      const columns = isPair && beside ? 2 : 1;
      const rows = isPair && !beside ? 2 : 1;
      const each = Math.min(width / columns, height / rows * ratio);
      const size = [Math.floor(each * columns), Math.floor(each / ratio * rows)];
      this.frame.style.width = `${size[0]}px`;
      this.frame.style.height = `${size[1]}px`;
      this.root.dataset.pair = isPair ? (columns === 2 ? "beside" : "below") : "";
      const scale = Math.min(window.devicePixelRatio || 1, 2, natural.naturalWidth / each);
      const pixels = [Math.round(each * scale), Math.round(each / ratio * scale)];
      if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) {
        [this.canvas.width, this.canvas.height] = pixels;
        this.scaled.clear();
      }
      this.ask();
    }

    ask() {
      this.asked ??= requestAnimationFrame(now => {
        this.asked = undefined;
        this.draw(now);
      });
    }

    draw(now) {
      const {board} = this;
      if (!board.after) return;
      const gone = Math.min(now - (this.drawnAt ?? now), 50) || 16;
      this.drawnAt = now;
      const gap = this.target - this.shown;
      const isStill = Math.abs(gap) < 0.05;
      this.shown = isStill ? this.target : this.shown + gap * (1 - Math.exp(-gone / EASE));
      const stops = this.stops();
      const at = stops.findIndex(stop => stop.years >= this.shown);
      const upper = stops[at < 0 ? stops.length - 1 : at];
      const lower = stops[at < 0 ? stops.length - 1 : Math.max(0, at - 1)];
      if (upper) this.fade(lower, upper);
      const isExact = isStill && this.target === board.years;
      this.after?.classList.toggle("seen", isExact || stops.length < 2);
      const years = Math.round(this.shown);
      this.root.dataset.shown = this.shown.toFixed(2);
      this.tag.textContent = this.held || !years
        ? this.words.photo : `${years > 0 ? "+" : "−"}${Math.abs(years)} ${this.words.years}`;
      if (isStill) this.drawnAt = undefined;
      else this.ask();
    }

    /** @param {Stop} lower  @param {Stop} upper */
    fade(lower, upper) {
      const span = upper.years - lower.years;
      const share = span ? Math.min(1, Math.max(0, (this.shown - lower.years) / span)) : 0;
      const pen = this.canvas.getContext("2d");
      pen.globalAlpha = 1;
      pen.drawImage(this.fitted(lower.image), 0, 0);
      pen.globalAlpha = share;
      if (share > 0) pen.drawImage(this.fitted(upper.image), 0, 0);
      const age = Math.round(lower.age + (upper.age - lower.age) * share);
      this.number.textContent = String(age);
      this.strip.point(this.shown, `${age} ${this.words.years}`);
    }

    /** A picture at the canvas's own size, so that fading costs little. */
    fitted(image) {
      const known = this.scaled.get(image);
      if (known) return known;
      const fitted = make("canvas");
      fitted.width = this.canvas.width;
      fitted.height = this.canvas.height;
      const pen = fitted.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.drawImage(image, 0, 0, fitted.width, fitted.height);
      this.scaled.set(image, fitted);
      return fitted;
    }

    holding(on) {
      if (on === this.held || on && !this.board.after) return;
      this.held = on;
      this.root.classList.toggle("held", on);
      this.ask();
    }

    choose(mode) {
      this.mode = mode;
      this.root.dataset.mode = mode;
      for (const button of this.buttons) {
        button.setAttribute("aria-pressed", String(button.id === `mode-${mode}`));
      }
      this.layout();
    }

    /** @param {number} share  of the width, where the photo ends and the edit begins */
    cut(share) {
      this.split = Math.min(0.98, Math.max(0.02, share));
      this.frame.style.setProperty("--ae-split", `${100 * this.split}%`);
      this.divider.setAttribute("aria-valuenow", String(Math.round(100 * this.split)));
    }

    say(text) {
      this.note.textContent = text ?? "";
    }

    /** Faces are tapped on the picture, each with its age. */
    ringed() {
      const {faces, who} = this.board;
      const several = faces.length > 1 || document.querySelectorAll("#who input").length > 1;
      this.everyone.hidden = !several;
      this.everyone.setAttribute("aria-pressed", String(who < 0));
      const rings = faces.length < 2 ? [] : faces.map((face, k) => {
        const ring = make("button", "ring");
        ring.style.cssText = `left:${100 * face.x}%;top:${100 * face.y}%;` +
          `width:${100 * face.w}%;height:${100 * face.h}%`;
        const age = face.age === null ? "" : String(face.age);
        if (age) ring.append(make("span", "", age));
        ring.setAttribute("aria-label", `${this.words.face} ${k + 1}${age && `, ${age} ${this.words.years}`}`);
        ring.setAttribute("aria-pressed", String(who === k || who < 0));
        ring.addEventListener("click", () => this.press("#who", k + 1));
        return ring;
      });
      this.rings.replaceChildren(...rings);
    }

    // undo

    /** What the visitor may come back to. */
    remember(before, board, isOther) {
      if (before.after) {
        if (isOther) this.past.push({source: this.source, years: before.years});
        else if (board.who === before.who && board.years !== before.years && !this.undoing) {
          this.past.push({years: before.years});
        }
        if (isOther && this.undoing) this.past.pop();
      }
      if (isOther && board.after) {
        this.source = this.chosen ?? this.source;
        this.chosen = null;
      }
      this.undoing = false;
      this.undo.disabled = !this.past.length;
    }

    goBack() {
      const last = this.past.pop();
      if (!last) return;
      this.undoing = true;
      this.undo.disabled = !this.past.length;
      this.slide(last.years);
      if (!last.source) {
        this.rest();
        return;
      }
      if (last.source.file) this.take([last.source.file]);
      else document.querySelectorAll("#examples button")[last.source.example].click();
    }

    // the camera

    async openCamera() {
      let stream;
      try {
        stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "user", width: {ideal: 1920}}});
      } catch {
        this.say(this.words.no_camera);
        return;
      }
      const lens = make("div", "ae-lens");
      const video = make("video");
      video.playsInline = video.muted = video.autoplay = true;
      video.srcObject = stream;
      const shoot = make("button", "shoot");
      shoot.setAttribute("aria-label", this.words.shoot);
      const close = make("button", "pill", this.words.close);
      lens.append(video, shoot, close);
      this.root.append(lens);
      shoot.focus();
      const end = () => {
        for (const track of stream.getTracks()) track.stop();
        lens.remove();
      };
      close.addEventListener("click", end);
      shoot.addEventListener("click", () => {
        const still = make("canvas");
        still.width = video.videoWidth;
        still.height = video.videoHeight;
        still.getContext("2d").drawImage(video, 0, 0);
        still.toBlob(blob => blob && this.take([new File([blob], "camera.jpg", {type: blob.type})]), "image/jpeg", 0.95);
        end();
      });
    }
  }

  // Gradio mounts its components when it likes: wait for those that the stage needs.
  let stage = null;
  const NEEDED = ["#words [data-told]", "#stage", "#ages", "#strip", "#settings", "#examples button",
    "#years input[type=range]", "#photo input[type=file]", "#token textarea, #token input", "#start"];
  const watch = () => {
    if (!stage && NEEDED.every(find)) {
      stage = new Stage();
      stage.choose("result");
    }
    stage?.listenToServer();
  };
  new MutationObserver(watch).observe(document.documentElement, {
    childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["data-told"],
  });
})();
