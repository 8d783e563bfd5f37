"""What tests in a real Chromium share: keys, and scripts that look at a page."""

from __future__ import annotations

KEYS = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "Escape": {"windowsVirtualKeyCode": 27},
    "ArrowRight": {"windowsVirtualKeyCode": 39},
}

# What would run if a name were a script; set up before the scripts of a page start.
SPY = "window.ran = []; for (const name of ['alert', 'confirm', 'prompt']) window[name] = (...said) => ran.push(said);"
WIDTH = "return document.documentElement.scrollWidth"
# Texts with a contrast (as WCAG has it) below 4.5 with the nearest background, over which they are painted.
PALE = """
const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const paint = (css) => { pen.fillStyle = css; pen.fillRect(0, 0, 1, 1); return pen.getImageData(0, 0, 1, 1).data; };
const under = (it, css = getComputedStyle(it).backgroundColor) => {
  pen.clearRect(0, 0, 1, 1);
  return paint(css)[3] < 250 && it.parentElement ? under(it.parentElement) : paint(css);
};
const light = (colour) => [0.2126, 0.7152, 0.0722].map((weight, i) => [weight, colour[i] / 255])
  .reduce((sum, [weight, c]) => sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4), 0);
return [...document.querySelectorAll('body, body *')]
  .filter((it) => [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .filter((it) => it.checkVisibility() && !it.closest('script, style, option, :disabled, .role-mark')).map((it) => {
    const paper = light(under(it)), ink = light(paint(getComputedStyle(it)[it.closest('svg') ? 'fill' : 'color']));
    return [(Math.max(paper, ink) + 0.05) / (Math.min(paper, ink) + 0.05), it.outerHTML];
  }).filter(([contrast]) => contrast < 4.5)
"""
