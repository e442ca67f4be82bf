// Lists what on the page has a contrast below WCAG 2.1's level AA: texts 4.5, or 3 for large ones, drawings 3 (1.4.11).

// Every colour as the browser paints it: red, green, blue and opacity.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const painted = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
};

const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3]));

const ground = (element) => {
  if (!element) return painted("canvas");
  const own = painted(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : [...over(own, ground(element.parentElement)), 1];
};

const luminance = (colour) => {
  const [red, green, blue] = colour.map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};

const ratio = (element, colour) => {
  const behind = ground(element);
  const [light, dark] = [luminance(over(painted(colour), behind)), luminance(behind)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
};

const faint = [];
for (const element of document.querySelectorAll("body *")) {
  const text = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join("").trim();
  if (!text || !element.checkVisibility() || element.closest("noscript, .sr, :disabled")) continue;
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const found = ratio(element, style.color);
  if (found < (large ? 3 : 4.5)) faint.push(`${found.toFixed(2)}: ${text.slice(0, 40)}`);
}
for (const shape of document.querySelectorAll("svg path")) {
  if (!shape.checkVisibility()) continue;
  const found = ratio(shape, getComputedStyle(shape).fill);
  if (found < 3) faint.push(`${found.toFixed(2)}: the drawing's .${shape.getAttribute("class")}`);
}
return faint;
