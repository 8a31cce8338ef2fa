// Times as a person says them. Now is an argument. All times are epoch seconds.

const DAY = 86_400;

// "4:32"; never below "0:00".
export function remaining(until, now) {
  const left = Math.max(0, Math.ceil(until - now));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}

// "Today 09:12", "Yesterday 18:40", "3 Nov, 08:00", in the clock and order that this computer is set to.
export function when(at, now, labels) {
  const moment = new Date(at * 1000);
  const clock = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const day = [labels.today, labels.yesterday][Math.round((midnight(now) - midnight(at)) / DAY)];
  return day ? `${day} ${clock}` : `${moment.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clock}`;
}

function midnight(at) {
  return new Date(at * 1000).setHours(0, 0, 0, 0) / 1000;
}
