# marfetch completion for fish. Turn it on with a line in ~/.config/fish/config.fish:
#   marfetch completion fish | source

function __marfetch_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape)
    set -l program $words[1]
    type -q -- $program; or set program marfetch

    set -l lines (command $program __complete $words[2..-1] "$current" 2>/dev/null)
    set -q lines[1]; or return 1
    set -l directive (string replace -r '^:' '' -- $lines[-1])
    string match -qr '^[0-9]+$' -- "$directive"; or return 1
    set -e lines[-1]

    # Bits of the directive: 1 error, 4 no files, 16 directories only.
    test (math "$directive % 2") -eq 1; and return 1
    if set -q lines[1]
        printf '%s\n' $lines
        return 0
    end

    # Complete the value of `--option=value`, then put the option name back in front.
    set -l kept (string match -r '^--[^=]+=' -- "$current")
    set -l value (string replace -r '^--[^=]+=' '' -- "$current")
    set -l found
    if test (math "floor($directive / 16) % 2") -eq 1
        set found (__fish_complete_directories "$value" '')
    else if test (math "floor($directive / 4) % 2") -eq 0
        set found (__fish_complete_path "$value" '')
    end
    for one in $found
        printf '%s%s\n' "$kept" $one
    end
end

complete -c marfetch -e
complete -c marfetch -f -k -a '(__marfetch_complete)'
