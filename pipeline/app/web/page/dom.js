/* Elements without a framework: `h` makes one, `keyed` keeps a list of them in step with data, so that focus, playing
   pictures and a screen reader's place survive an update. The page's policy forbids markup and styles in strings, so
   nothing here takes any. */

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on` holds listeners, `css` custom properties and styles, a value of false or null leaves the attribute
    out. Children are texts, elements, lists of these, or nothing. */
export function h(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  attribute(element, attributes);
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false);
}

export function attribute(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [kind, listener] of Object.entries(value)) element.addEventListener(kind, listener);
    } else if (name === "css") {
      for (const [property, said] of Object.entries(value)) element.style.setProperty(property, said);
    } else if (name === "value" || name === "checked" || name === "srcObject") {
      element[name] = value;
    } else if (value === false || value === null || value === undefined) {
      element.removeAttribute(name);
    } else if (element.getAttribute(name) !== String(value)) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
}

/** Says `text` in `element`, and touches nothing where it says so already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Has `parent` hold one element for each of `items`, in their order. `make(item)` returns an element; its property
    `update`, if there is one, is called with every newer item of the same key, `gone` when there is none any more. */
export function keyed(parent, items, key, make) {
  const had = parent.kept ?? new Map();
  const kept = new Map();
  for (const item of items) {
    const name = key(item);
    const element = had.get(name) ?? make(item);
    had.delete(name);
    kept.set(name, element);
    element.update?.(item);
  }
  for (const element of had.values()) {
    element.gone?.();
    element.remove();
  }
  let place = parent.firstChild;
  for (const element of kept.values()) {
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  parent.kept = kept;
}

/** Lets go of all that `keyed` keeps in `parent`. */
export function unkey(parent) {
  keyed(parent, [], String, () => null);
}

/** Data, not words: a name, an id, a number. Translators of the page leave it alone. */
export function raw(text, attributes = {}, tag = "span") {
  return h(tag, { translate: "no", ...attributes }, text);
}
