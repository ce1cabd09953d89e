/** uPlot's own script stands before the page's. */
declare const uPlot: typeof import('uplot').default;
