"use strict";
// What Gradio's components leave out, for keyboards, screen readers and phones.
(() => {
  const find = selector => document.querySelector(selector);

  // Arrow keys move a slider without a pointer ever being let go: tell the listeners when the key is.
  document.addEventListener("keyup", event => {
    if (event.target.matches?.("input[type=range]")) {
      event.target.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
    }
  });

  // A screen reader hears what a picture is, which age the slider shows, and the line under it.
  const name = () => {
    for (const picture of document.querySelectorAll('img:not([alt]), img[alt=""]')) {
      const label = picture.closest(".block")?.querySelector('[data-testid="block-label"]')?.innerText.trim();
      if (label) picture.alt = label;
    }
    const range = find("#years input[type=range]");
    const ages = find("#years .info-text");
    if (range && ages) range.setAttribute("aria-valuetext", `${range.value}. ${ages.innerText}`);
    else range?.removeAttribute("aria-valuetext");
    const line = find("#line");
    if (line?.getAttribute("aria-live") !== "polite") line?.setAttribute("aria-live", "polite");
  };

  // On a phone what was just made lies below the fold: the result of a new photo, and the picture chosen in Compare.
  const seen = {photo: null, result: null, large: null};
  let opened = false;
  const changed = place => {
    const source = find(`#${place} img`)?.src ?? null;
    const isNew = source !== null && source !== seen[place];
    seen[place] = source;
    return isNew;
  };
  const bringIntoView = () => {
    opened = changed("photo") || opened;
    if (changed("result") && opened) {
      opened = false;
      if (window.innerWidth <= 640) find("#result").scrollIntoView({behavior: "smooth", block: "start"});
    }
    if (changed("large")) find("#large").scrollIntoView({behavior: "smooth", block: "nearest"});
  };

  document.addEventListener("input", name);
  const watch = () => {
    name();
    bringIntoView();
  };
  const observer = new MutationObserver(watch);
  observer.observe(document.documentElement, {
    childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["src"],
  });

  // The hold button slides the divider away while it is pressed, by mouse, finger or space bar.
  const hold = on => find("#result")?.classList.toggle("held", on);
  const onButton = event => event.target.closest?.("#hold");
  const isPress = event => event.key === " " || event.key === "Enter";
  document.addEventListener("pointerdown", event => onButton(event) && hold(true));
  document.addEventListener("keydown", event => onButton(event) && isPress(event) && hold(true));
  document.addEventListener("keyup", event => onButton(event) && hold(false));
  for (const end of ["pointerup", "pointercancel", "blur"]) window.addEventListener(end, () => hold(false));

  // A picture pasted anywhere goes the way of one that was chosen.
  document.addEventListener("paste", event => {
    const pictures = [...(event.clipboardData?.files ?? [])].filter(file => file.type.startsWith("image/"));
    const input = find("#paste input[type=file]");
    if (!pictures.length || !input) return;
    event.preventDefault();
    event.stopPropagation();
    const chosen = new DataTransfer();
    chosen.items.add(pictures[0]);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  }, true);

  // What this browser cannot draw is not shown as a broken picture: a preview follows.
  const drawn = event => {
    if (event.target.tagName === "IMG" && event.target.closest("#photo")) {
      event.target.classList.toggle("undrawn", event.type === "error");
    }
  };
  for (const type of ["error", "load"]) document.addEventListener(type, drawn, true);
})();
