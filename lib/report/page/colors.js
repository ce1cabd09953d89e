// Colours come from the style sheet, so that light and dark are decided in one place.

/** @param {string} name */
export const color = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const SERIES = 8;

/** The colour of the n-th run or series. @param {number} place */
export const seriesVariable = (place) => `series-${(place % SERIES) + 1}`;

/** For attributes of SVG elements, which follow a change of the theme by themselves. @param {number} place */
export const seriesColor = (place) => `var(--${seriesVariable(place)})`;

const KEY = 'cream-report-theme';

/** @returns {string} */
export function storedTheme() {
  try {
    return localStorage.getItem(KEY) ?? 'auto';
  } catch {
    return 'auto'; // a file without storage
  }
}

/** @param {string} theme */
export function setTheme(theme) {
  if (theme === 'auto') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.setAttribute('data-theme', theme);
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Then it lasts as long as the page.
  }
}

/** @param {() => void} listener */
export function onSchemeChange(listener) {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', listener);
}
