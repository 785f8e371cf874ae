// Elements from values. Text is always text: names and reasons come from anybody.

/** An element: attributes (`null` and `false` are left out), then children: elements or text. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** Make `parent` hold `wanted`, changing only what differs: focus, selection and scrolling stay. */
export function show(parent, ...wanted) {
  const nodes = wanted.flat(Infinity).filter((node) => node !== null && node !== false);
  const shell = document.createElement(parent.tagName);
  shell.append(...nodes);
  morphChildren(parent, shell);
}

function morphChildren(old, wanted) {
  const keyed = new Map();
  for (const child of old.children) {
    if (child.dataset.key) keyed.set(child.dataset.key, child);
  }
  let at = old.firstChild;
  for (const next of [...wanted.childNodes]) {
    const key = next.dataset?.key;
    const known = key ? keyed.get(key) : at?.dataset?.key ? null : at;
    if (known && known.nodeName === next.nodeName) {
      if (known !== at) old.insertBefore(known, at);
      morph(known, next);
      at = known.nextSibling;
    } else {
      old.insertBefore(next, at);
    }
  }
  while (at) {
    const rest = at.nextSibling;
    at.remove();
    at = rest;
  }
}

function morph(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, next);
}
