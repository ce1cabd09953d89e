// Elements are made here and nowhere else, from text nodes: what a run contains is never read as markup.

/**
 * @typedef {Node | string | number | null | undefined | false | readonly Child[]} Child
 * @typedef {Record<string, string | number | boolean | undefined | ((event: any) => void)>} Attributes
 */

/** @param {Element} element @param {Attributes} attributes @param {readonly Child[]} children */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

/** @param {Node} element @param {readonly Child[]} children */
export function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.appendChild(child);
    else element.appendChild(document.createTextNode(`${/** @type {string | number} */ (child)}`));
  }
}

/**
 * An HTML element; attributes whose value is a function are event listeners.
 * @param {string} tag @param {Attributes} attributes @param {...Child} children
 * @returns {HTMLElement}
 */
export const h = (tag, attributes = {}, ...children) =>
  /** @type {HTMLElement} */ (fill(document.createElement(tag), attributes, children));

/**
 * An SVG element.
 * @param {string} tag @param {Attributes} attributes @param {...Child} children
 */
export const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

/** A box with a title. @param {string} title @param {...Child} children */
export const card = (title, ...children) =>
  h('section', { class: 'card' }, title === '' ? null : h('h3', {}, title), children);

/**
 * A table that scrolls inside itself where it is too wide.
 * @param {readonly Child[]} header @param {readonly (readonly Child[])[]} rows @param {string} [name]
 */
export const table = (header, rows, name = '') =>
  h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': name || 'table' },
    h(
      'table',
      { class: name },
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          header.map((cell) => h('th', { scope: 'col' }, cell)),
        ),
      ),
      h(
        'tbody',
        {},
        rows.map((row) =>
          h(
            'tr',
            {},
            row.map((cell) => h('td', {}, cell)),
          ),
        ),
      ),
    ),
  );

/**
 * A choice with a label.
 * @param {string} label @param {readonly (readonly [value: string, text: string])[]} options
 * @param {string} chosen @param {(value: string) => void} onChange
 */
export const select = (label, options, chosen, onChange) =>
  h(
    'label',
    { class: 'field' },
    h('span', {}, label),
    h(
      'select',
      { 'aria-label': label, change: (event) => onChange(event.target.value) },
      options.map(([value, text]) => h('option', { value, selected: value === chosen }, text)),
    ),
  );
