"use strict";
// What Gradio's components leave out, for keyboards, screen readers and phones.
(() => {
  const find = selector => document.querySelector(selector);
  const example = navigator.language.startsWith("zh") ? "示例" : "Example";

  // Arrow keys move a slider without a pointer ever being let go: tell the listeners when the key is.
  document.addEventListener("keyup", event => {
    const moves = /^(Arrow|Page|Home$|End$)/.test(event.key);
    if (moves && event.target.matches?.("input[type=range]") && !event.target.closest("#years")) {
      event.target.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
    }
  });

  // A screen reader hears what a picture is, which age the slider shows, and the line under it.
  const name = () => {
    for (const picture of document.querySelectorAll('img:not([alt]), img[alt=""]')) {
      const label = picture.closest(".block")?.querySelector('[data-testid="block-label"]')?.innerText.trim();
      if (label) picture.alt = label;
    }
    document.querySelectorAll("#examples button").forEach((button, k) => {
      if (!button.getAttribute("aria-label")?.endsWith(` ${k + 1}`)) button.setAttribute("aria-label", `${example} ${k + 1}`);
    });
    const range = find("#years input[type=range]");
    const ages = find("#years .info-text");
    if (range && ages) range.setAttribute("aria-valuetext", `${range.value}. ${ages.innerText}`);
    else range?.removeAttribute("aria-valuetext");
    const line = find("#line");
    if (line?.getAttribute("aria-live") !== "polite") line?.setAttribute("aria-live", "polite");
  };

  // The picture that was chosen in Compare lies below the fold on a phone.
  let large = null;
  const bringIntoView = () => {
    const source = find("#large img")?.src ?? null;
    if (source !== null && source !== large) find("#large").scrollIntoView({behavior: "smooth", block: "nearest"});
    large = source;
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

})();
