// What axe-core finds on the page, each with where it is. The library was run before. Contrast is left to contrast.js, which measures
// it in light and dark, and in a fraction of the time.

const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const options = {
  runOnly: { type: "tag", values: tags },
  rules: { "color-contrast": { enabled: false } },
  resultTypes: ["violations"],
};
return axe.run(document, options).then(({ violations }) =>
  violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${help}: ${target}: ${failureSummary}`)));
