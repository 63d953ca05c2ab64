/* Draws the dashboard's charts; the page is complete without them. */
"use strict";
{
    const HEIGHT = 132;
    const chart = JSON.parse(document.getElementById("idempotency-chart").textContent);
    const end = chart.times.at(-1) + chart.step;

    // A time as the reader's language and the project's time zone write it; a zone may have a name
    // that no browser knows.
    function writer(parts) {
        const language = chart.language || undefined;
        try {
            return new Intl.DateTimeFormat(language, { ...parts, timeZone: chart.zone });
        } catch {
            return new Intl.DateTimeFormat(language, parts);
        }
    }

    // Three or four labels, for which the narrowest chart has room.
    const HOUR = 3600;
    const [labelled, parts] =
        chart.step < 900
            ? [HOUR / 3, { hour: "numeric", minute: "2-digit" }]
            : chart.step < HOUR
              ? [HOUR * 6, { hour: "numeric" }]
              : [HOUR * 48, { weekday: "short", day: "numeric" }];
    const label = writer(parts);
    const short = new Intl.NumberFormat(chart.language || undefined, { notation: "compact" });
    const whole = [...Array(10).keys()].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power));
    const long = new Intl.NumberFormat(chart.language || undefined);
    const clock = writer(
        chart.step < HOUR
            ? { hour: "numeric", minute: "2-digit" }
            : { weekday: "short", hour: "numeric" },
    );

    function wall(seconds) {
        try {
            return uPlot.tzDate(new Date(seconds * 1000), chart.zone);
        } catch {
            return new Date(seconds * 1000);
        }
    }

    function colour(element, name) {
        return getComputedStyle(element).getPropertyValue(name).trim();
    }

    function axis(element, more) {
        return {
            font: `11px ${getComputedStyle(element).fontFamily}`,
            stroke: () => colour(element, "--body-quiet-color"),
            grid: { stroke: () => colour(element, "--hairline-color"), width: 1 },
            ticks: { show: false },
            ...more,
        };
    }

    function draw(element) {
        const numbers = chart.measures[element.dataset.measure];
        const reading = element.closest("figure").querySelector(".idempotency-reading");
        const rest = reading.textContent;
        const bar = () => colour(element, "--idempotency-bar");

        function read({ cursor: { idx } }) {
            reading.textContent = idx == null ? rest : `${clock.format(chart.times[idx] * 1000)} · ${long.format(numbers[idx])}`;
        }

        return new uPlot({
            width: element.clientWidth,
            height: HEIGHT,
            tzDate: wall,
            padding: [8, 12, 0, 0],
            legend: { show: false },
            cursor: { y: false, points: { show: false }, drag: { x: false }, sync: { key: "idempotency" } },
            hooks: { setCursor: [read] },
            scales: {
                x: { range: () => [chart.times[0], end] },
                // Four at least, so that a single event is no wall.
                y: { range: (plot, low, high) => [0, Math.max(4, Math.ceil(high * 1.1))] },
            },
            axes: [
                axis(element, {
                    size: 24,
                    gap: 6,
                    incrs: [labelled],
                    grid: { show: false },
                    values: (plot, splits) => splits.map((seconds) => label.format(seconds * 1000)),
                }),
                axis(element, {
                    size: 40,
                    gap: 6,
                    space: 28,
                    // Nothing happens half a time.
                    incrs: whole,
                    values: (plot, splits) => splits.map((number) => short.format(number)),
                }),
            ],
            series: [
                {},
                {
                    fill: bar,
                    width: 0,
                    points: { show: false },
                    paths: uPlot.paths.bars({ size: [0.8, 40], align: 1 }),
                },
            ],
        }, [chart.times, numbers], element);
    }

    const elements = [...document.querySelectorAll(".idempotency-chart")];
    const plots = new Map(elements.map((element) => [element, draw(element)]));

    const resized = new ResizeObserver((entries) => {
        for (const { target } of entries) {
            plots.get(target).setSize({ width: target.clientWidth, height: HEIGHT });
        }
    });
    elements.forEach((element) => resized.observe(element));

    // The admin's own switch sets data-theme, the system's is a media query.
    const recolour = () => plots.forEach((plot) => plot.redraw());
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
}
