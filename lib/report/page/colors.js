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

let current = 'auto';

/** light, dark, or auto: as the system says. */
export const storedTheme = () => current;

const isDark = matchMedia('(prefers-color-scheme: dark)');

function applyTheme() {
  const chosen = storedTheme();
  const theme = chosen === 'auto' ? (isDark.matches ? 'dark' : 'light') : chosen;
  document.documentElement.setAttribute('data-theme', theme);
}

/** @param {string} theme */
export function setTheme(theme) {
  current = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Then it lasts as long as the page.
  }
  applyTheme();
}

/** Takes the theme that was chosen last, and follows the system. @param {() => void} onChange */
export function startTheme(onChange) {
  try {
    current = localStorage.getItem(KEY) ?? 'auto';
  } catch {
    // Nothing is remembered here.
  }
  applyTheme();
  isDark.addEventListener('change', () => {
    applyTheme();
    onChange();
  });
}
