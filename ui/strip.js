"use strict";
// The slider's strip: one face at its ages, a mark at today, a thumb and a bubble with the age.
(() => {
  /**
   * @typedef {{x: number, y: number, w: number, h: number}} Place  shares of a picture
   * @typedef {{years: number, image: HTMLImageElement | null}} Cell
   */

  const make = (name, kind) => {
    const element = document.createElement(name);
    element.className = kind;
    return element;
  };

  class Strip {
    /** @param {HTMLElement} parent  @param {Record<string, string>} words */
    constructor(parent, words) {
      this.words = words;
      this.root = make("div", "ae-strip");
      this.root.setAttribute("aria-hidden", "true"); // the range input above it says all this
      this.canvas = make("canvas", "film");
      this.today = make("i", "today");
      this.thumb = make("i", "thumb");
      this.bubble = make("b", "bubble");
      this.ticks = make("div", "ticks");
      this.root.append(this.canvas, this.today, this.thumb, this.bubble, this.ticks);
      parent.append(this.root);
      this.low = -30;
      this.high = 40;
      this.count = 8;
      this.drawn = "";
    }

    /** Years as a share of the strip's width: the middle of the first cell to that of the last. */
    share(years) {
      const inner = (years - this.low) / (this.high - this.low);
      return (0.5 + inner * (this.count - 1)) / this.count;
    }

    /** @param {number[]} stops  years of all cells */
    scale(stops) {
      const low = Math.min(...stops);
      const high = Math.max(...stops);
      const key = `${stops}`;
      if (key === this.scaled) return;
      this.scaled = key;
      this.low = low;
      this.high = high;
      this.count = stops.length;
      this.today.style.left = `${100 * this.share(0)}%`;
      const label = (years, k) => {
        const sign = years > 0 ? "+" : "−";
        const text = years === 0 ? this.words.today : `${sign}${Math.abs(years)}`;
        const tick = make("span", "");
        tick.textContent = k === stops.length - 1 ? `${text} ${this.words.years}` : text;
        return tick;
      };
      this.ticks.replaceChildren(...stops.map(label));
    }

    /** @param {Cell[]} cells  @param {Place} place */
    draw(cells, place) {
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.round(this.canvas.clientWidth * ratio);
      const height = Math.round(this.canvas.clientHeight * ratio);
      document.documentElement.style.setProperty("--ae-cell", `${this.canvas.clientWidth / this.count}px`);
      const key = `${width} ${height} ${JSON.stringify(place)} ${cells.map(c => c.image?.src)}`;
      if (key === this.drawn || !width) return;
      this.drawn = key;
      this.canvas.width = width;
      this.canvas.height = height;
      const pen = this.canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      cells.forEach((cell, k) => {
        const left = Math.round(k * width / cells.length);
        const right = Math.round((k + 1) * width / cells.length);
        if (cell.image) this.cell(pen, cell.image, place, left, right - left, height);
      });
    }

    /** One face, as large as the cell is high. */
    cell(pen, image, place, left, width, height) {
      const edge = 0.78 * place.h * image.naturalHeight; // of the head, forehead to chin
      const scale = height / edge;
      const wide = width / scale;
      const x = (place.x + place.w / 2) * image.naturalWidth - wide / 2;
      const y = (place.y + 0.5 * place.h) * image.naturalHeight - edge / 2;
      pen.save();
      pen.beginPath();
      pen.rect(left, 0, width, height);
      pen.clip();
      const enough = Math.max(1, wide / image.naturalWidth); // a crop narrower than the cell: no gap
      const middle = left + width / 2;
      const from = enough > 1 ? image.naturalWidth / 2 : x + wide / 2;
      const grown = scale * enough;
      const right = image.naturalWidth - wide / enough / 2;
      const centre = Math.min(Math.max(from, wide / enough / 2), Math.max(right, wide / enough / 2));
      pen.drawImage(
        image,
        middle - centre * grown, -(y + edge / 2) * grown + height / 2,
        image.naturalWidth * grown, image.naturalHeight * grown,
      );
      pen.restore();
    }

    /** @param {number} years  @param {string} text */
    point(years, text) {
      const share = this.share(years);
      this.thumb.style.left = `${100 * share}%`;
      this.bubble.style.left = `clamp(44px, ${100 * share}%, 100% - 44px)`;
      if (this.bubble.textContent !== text) this.bubble.textContent = text;
    }
  }

  window.AgeEditStrip = Strip;
})();
