module marfetch/delay

go 1.21
