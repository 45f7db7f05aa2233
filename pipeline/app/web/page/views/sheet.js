/* A picture with boxes that a person corrects: drawn by pointer, or added, moved and sized by keys. */

import { placed } from "/page/boxes.js";
import { attribute, fill, h } from "/page/dom.js";
import { button, hue } from "/page/parts.js";
import { t } from "/page/words.js";

const LEAST = 4; // pixels of the source; less was a slip of the hand
const STEP = 4;

/** `{element, tools, draw(), detections(), …}` for one item of the review. */
export function sheet(item, mayChange) {
  const said = item.decision?.detections ?? item.detections;
  const labels = [...new Set([...item.labels, ...said.map((one) => one.label)])];
  const image = h("img", { src: item.picture, alt: t("review.picture", { stream: item.stream }), draggable: "false" });
  const over = h("div");
  const element = h("div", { class: "sheet" }, item.picture ? image : h("p", { class: "message", translate: "no" }, item.text), over);
  const tools = h("div", { hidden: true });
  const boxes = said.map((one) => ({ ...one, box: one.box && [...one.box] }));
  let chosen = -1;
  let drawing = false;
  let pulling = null;
  const choice = h("select", { id: "box-label", on: { change: relabel } }, labels.map((one) => h("option", { value: one, translate: "no" }, one)));
  const other = h("input", { id: "box-new", autocomplete: "off", spellcheck: "false", maxlength: 60, on: { change: named } });

  function size() {
    return [image.naturalWidth || 1, image.naturalHeight || 1];
  }

  /** The picture may be smaller than the source: boxes are in the source's pixels. */
  function scale() {
    const [wide, high] = size();
    return [wide / (item.width || wide), high / (item.height || high)];
  }

  function render() {
    const [wide, high] = size();
    const at = placed(image, wide, high);
    const [sx, sy] = scale();
    const focused = over.contains(document.activeElement);
    let wholes = 0;
    fill(
      over,
      boxes.map((one, index) => {
        const whole = !one.box;
        const [x1, y1, x2, y2] = one.box ?? [0, 0, 0, 0];
        const top = whole ? 8 + 30 * wholes++ : image.offsetTop + at.top + y1 * sy * at.scale;
        const box = h(
          drawing ? "button" : "div",
          {
            class: whole ? "box whole" : `box${top < 18 ? " top" : ""}`,
            "data-index": index,
            "aria-pressed": drawing ? String(index === chosen) : null,
            "aria-label": drawing ? t(whole ? "review.whole" : "review.box", { label: one.label, x: Math.round(x1), y: Math.round(y1), wide: Math.round(x2 - x1), high: Math.round(y2 - y1) }) : null,
            css: whole ? { "--hue": hue(one.label), top: `${top}px` } : {
              "--hue": hue(one.label),
              left: `${image.offsetLeft + at.left + x1 * sx * at.scale}px`,
              top: `${top}px`,
              width: `${(x2 - x1) * sx * at.scale}px`,
              height: `${(y2 - y1) * sy * at.scale}px`,
            },
          },
          h("span", { translate: "no" }, one.label),
        );
        if (drawing) attribute(box, { type: "button", on: { focus: () => choose(index), keydown: (event) => keys(event, index) } });
        return box;
      }),
    );
    if (focused && chosen >= 0) over.children[chosen]?.focus();
  }

  function choose(index) {
    chosen = index;
    [...over.children].forEach((one, place) => one.setAttribute("aria-pressed", String(place === index)));
    if (boxes[index] && labels.includes(boxes[index].label)) choice.value = boxes[index].label;
  }

  function relabel() {
    if (!boxes[chosen]) return;
    boxes[chosen].label = choice.value;
    render();
  }

  function named() {
    const name = other.value.trim();
    if (!name) return;
    if (!labels.includes(name)) {
      labels.push(name);
      choice.append(h("option", { value: name, translate: "no" }, name));
    }
    choice.value = name;
    other.value = "";
    relabel();
  }

  function remove(index = chosen) {
    if (!boxes[index]) return;
    boxes.splice(index, 1);
    chosen = Math.min(index, boxes.length - 1);
    render();
    over.children[chosen]?.focus();
  }

  /** A box, in the middle where none is given; null is for all of it. */
  function add(box) {
    const [wide, high] = [item.width, item.height];
    boxes.push({ label: choice.value || "object", box: box === undefined ? [wide * 0.4, high * 0.4, wide * 0.6, high * 0.6] : box });
    chosen = boxes.length - 1;
    render();
    over.children[chosen].focus({ preventScroll: true });
  }

  function keys(event, index) {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    const one = boxes[index];
    if (by && one.box) {
      const [x1, y1, x2, y2] = one.box;
      one.box = event.shiftKey ? [x1, y1, Math.max(x2 + by[0], x1 + LEAST), Math.max(y2 + by[1], y1 + LEAST)] : [x1 + by[0], y1 + by[1], x2 + by[0], y2 + by[1]];
      one.box = inside(one.box);
      render();
    } else if (event.key === "Delete" || event.key === "Backspace") remove(index);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function inside([x1, y1, x2, y2]) {
    const [wide, high] = [item.width, item.height];
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    return [within(x1, wide), within(y1, high), within(x2, wide), within(y2, high)];
  }

  /** Where a pointer is, in the source's pixels. */
  function spot(event) {
    const [wide, high] = size();
    const at = placed(image, wide, high);
    const [sx, sy] = scale();
    const place = image.getBoundingClientRect();
    return [(event.clientX - place.left - at.left) / at.scale / sx, (event.clientY - place.top - at.top) / at.scale / sy];
  }

  element.addEventListener("pointerdown", (event) => {
    if (!drawing || event.button || !item.picture) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    const held = event.target.closest(".box");
    const index = held ? Number(held.dataset.index) : -1;
    pulling = { from: spot(event), index, box: index >= 0 ? boxes[index].box : null };
    if (held) held.focus();
  });
  element.addEventListener("pointermove", (event) => {
    if (!pulling) return;
    const [x, y] = spot(event);
    const [fx, fy] = pulling.from;
    if (pulling.box) {
      const [x1, y1, x2, y2] = pulling.box;
      boxes[pulling.index].box = inside([x1 + x - fx, y1 + y - fy, x2 + x - fx, y2 + y - fy]);
      render();
    } else if (pulling.index < 0 || pulling.fresh) {
      const box = inside([Math.min(x, fx), Math.min(y, fy), Math.max(x, fx), Math.max(y, fy)]);
      if (box[2] - box[0] < LEAST || box[3] - box[1] < LEAST) return;
      if (pulling.index < 0) {
        add(box);
        Object.assign(pulling, { index: boxes.length - 1, fresh: true });
      } else {
        boxes[pulling.index].box = box;
        render();
      }
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) element.addEventListener(kind, () => (pulling = null));
  image.addEventListener("load", render);
  new ResizeObserver(render).observe(image);

  return {
    element,
    tools,
    get drawing() {
      return drawing;
    },
    draw() {
      if (!mayChange) return;
      drawing = true;
      element.classList.add("drawing");
      tools.hidden = false;
      tools.className = "fields";
      fill(
        tools,
        h("label", { for: "box-label" }, t("review.label")),
        choice,
        h("label", { for: "box-new" }, t("review.new_label")),
        other,
        h("div", { class: "row" }, item.picture && button("add", t("review.add"), () => add()), button("add", t("review.add_whole"), () => add(null)), button("remove", t("review.delete"), () => remove())),
        item.picture && h("p", { class: "faint" }, t("review.draw_how")),
      );
      render();
      (over.firstChild ?? tools.querySelector("button")).focus();
    },
    add: () => add(item.picture ? undefined : null),
    holds: (target) => drawing && over.contains(target),
    detections: () => boxes.map((one) => ({ label: one.label, ...(one.box && { box: one.box.map((side) => Math.round(side * 10) / 10) }) })),
  };
}
